"""Signatures of bundles: by whom, and of these files exactly. The keys are real, and so is model-signing."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from fixture_bundles import FIXTURES, edit_manifest

from serve.bundle.bundle import open_bundle
from serve.bundle.signature import check_signature, sign
from serve.errors import BundleError, KeyFileError, SignatureError
from serve.files.names import SIGNATURE_NAME
from serve.http.following import Follower
from serve.http.model import CurrentModel
from serve.http.settings import ServiceSettings

from ..conftest import Run


def write_keys(
    folder: Path,
    name: str,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    encryption: KeySerializationEncryption | None = None,
) -> tuple[Path, Path]:
    """PEM files of a private and a public key."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path, "own", ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def signed(copy: Path, keys: tuple[Path, Path]) -> Path:
    sign(open_bundle(copy), keys[0])
    return copy


def test_a_signed_bundle_is_the_same_bundle(signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    """Wherever it is copied, and whatever it is called there; signing again replaces the signature."""
    check_signature(signed, keys[1])
    assert open_bundle(signed).version == open_bundle(FIXTURES / "dot-bias").version
    moved = Path(shutil.copytree(signed, tmp_path / "elsewhere" / "other-name"))
    check_signature(moved, keys[1])
    private, public = write_keys(tmp_path, "new", ec.generate_private_key(ec.SECP384R1()))
    sign(open_bundle(moved), private)
    check_signature(moved, public)
    with pytest.raises(SignatureError, match="not a signature of these files by the key"):
        check_signature(moved, keys[1])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    "change",
    [
        lambda bundle: edit_manifest(bundle, lambda manifest: manifest["data"].update(name="other")),
        lambda bundle: truncate(bundle / "score.onnx"),
        lambda bundle: (bundle / "profiles.json").unlink(),
        lambda bundle: (bundle / "more.bin").write_bytes(b"more"),
        lambda bundle: (bundle / ".gitignore").write_bytes(b"*"),
        lambda bundle: truncate(bundle / SIGNATURE_NAME),
        lambda bundle: (bundle / SIGNATURE_NAME).write_text("{}"),
        lambda bundle: (bundle / SIGNATURE_NAME).write_bytes(b"\xff\x00"),
        lambda bundle: (bundle / SIGNATURE_NAME).unlink(),
    ],
    ids=["manifest", "graph", "missing", "added", "git", "cut", "empty", "bytes", "unsigned"],
)
def test_what_was_changed_is_not_signed(
    change: Callable[[Path], object], signed: Path, keys: tuple[Path, Path]
) -> None:
    change(signed)
    with pytest.raises(SignatureError):
        check_signature(signed, keys[1])


def test_a_payload_of_another_signature(signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    """A signature of the key, with the statement of another bundle put in."""
    other = Path(shutil.copytree(FIXTURES / "dot", tmp_path / "dot"))
    sign(open_bundle(other), write_keys(tmp_path, "else", ec.generate_private_key(ec.SECP256R1()))[0])
    ours, theirs = (json.loads((folder / SIGNATURE_NAME).read_bytes()) for folder in (signed, other))
    theirs["dsseEnvelope"]["signatures"] = ours["dsseEnvelope"]["signatures"]
    theirs["verificationMaterial"] = ours["verificationMaterial"]
    (other / SIGNATURE_NAME).write_text(json.dumps(theirs))
    with pytest.raises(SignatureError):
        check_signature(other, keys[1])


def test_the_signature_is_a_small_plain_file(signed: Path, tmp_path: Path) -> None:
    (signed / SIGNATURE_NAME).write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(BundleError, match="more than 1048576 bytes"):
        open_bundle(signed)
    (signed / SIGNATURE_NAME).unlink()
    (signed / SIGNATURE_NAME).symlink_to(tmp_path / "own.pem")
    with pytest.raises(BundleError, match="is a link"):
        open_bundle(signed)
    (signed / SIGNATURE_NAME).unlink()
    edit_manifest(signed, lambda m: m["files"].update({SIGNATURE_NAME: {"bytes": 1, "sha256": ""}}))
    with pytest.raises(BundleError, match="no bare file name"):
        open_bundle(signed)


def test_files_without_a_key(copy: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    of_rsa = write_keys(tmp_path, "rsa", rsa.generate_private_key(65537, 2048))
    curve = write_keys(tmp_path, "curve", ec.generate_private_key(ec.SECP256K1()))
    locked = write_keys(
        tmp_path, "locked", ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"x")
    )
    for private in (of_rsa[0], curve[0], locked[0], keys[1], copy / "score.onnx"):
        with pytest.raises(KeyFileError, match="holds no private key"):
            sign(open_bundle(copy), private)
    sign(open_bundle(copy), keys[0])
    for public in (of_rsa[1], curve[1], keys[0], copy / "score.onnx"):
        with pytest.raises(KeyFileError, match="holds no public key"):
            check_signature(copy, public)


def test_the_commands(copy: Path, keys: tuple[Path, Path], recsys: Run) -> None:
    private, public = keys
    assert recsys("verify", copy, "--public-key", public)[0] == 1
    assert recsys("sign", copy, "--private-key", public)[0] == 2
    code, out, _ = recsys("sign", copy, "--private-key", private)
    assert (code, out) == (0, f"Signed: {copy / SIGNATURE_NAME}\n")
    assert recsys("verify", copy, "--public-key", public, "--json")[:2] == (0, '{"signed":true}\n')
    assert json.loads(recsys("inspect", copy, "--json")[1])["signed"] is True
    truncate(copy / "score.onnx")
    code, _, err = recsys("sign", copy, "--private-key", private)
    assert code == 1
    assert "score.onnx" in err
    code, _, err = recsys("verify", copy)
    assert code == 2
    assert "--public-key" in err


def test_a_service_is_not_started(copy: Path, keys: tuple[Path, Path], recsys: Run) -> None:
    for arguments, code, told in (
        (["--require-signature"], 2, "go together"),
        (["--public-key", keys[1]], 2, "go together"),
        (["--require-signature", "--public-key", keys[0]], 2, "holds no public key"),
        (["--require-signature", "--public-key", keys[1]], 1, "is not signed"),
    ):
        found = recsys("serve", copy, "--port", "0", *arguments)
        assert found[0] == code
        assert told in found[2]


def test_a_service_never_changes_to_an_unsigned_bundle(
    signed: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    link = tmp_path / "current"
    link.symlink_to(signed)
    current = CurrentModel()
    follower = Follower(ServiceSettings(bundle=link, device="cpu", threads=1, public_key=keys[1]), current)

    async def follow() -> None:
        await follower.start()
        link.unlink()
        link.symlink_to(FIXTURES / "dot")
        task = asyncio.create_task(follower.follow())
        while not current.last_error:
            await asyncio.sleep(0.05)
        task.cancel()

    asyncio.run(follow())
    assert "is not signed" in (current.last_error or "")
    assert current.model is not None
    assert current.model.version == open_bundle(signed).version
