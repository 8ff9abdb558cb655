"""Signatures of bundles: who made one, where checksums say only that it is whole.

`model.sig` is a signature of OpenSSF Model Signing (https://github.com/sigstore/model-transparency), by an
elliptic-curve key, over every other file of the folder. It is the one file of a bundle that its manifest does
not list. `model_signing verify key` checks it, too.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from serve.bundle.bundle import Bundle
from serve.errors import KeyFileError, SignatureError
from serve.files.atomic import write_file
from serve.files.names import SIGNATURE_NAME


def sign(bundle: Bundle, private_key: Path) -> None:
    """Add `model.sig` to a checked bundle, or replace it. Nothing else of the bundle changes.

    Args:
        bundle: The bundle.
        private_key: A PEM file with an unencrypted key on P-256, P-384 or P-521.

    Raises:
        KeyFileError: there is no such key in the file.
        OSError: the folder is not writable.
    """
    from model_signing import signing

    config = signing.Config()  # type: ignore[no-untyped-call]
    try:
        config.use_elliptic_key_signer(private_key=private_key)
    except Exception as error:  # noqa: BLE001  whatever a file with no key in it makes the library raise
        raise _no_key(private_key, "private key (unencrypted)", error) from None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / SIGNATURE_NAME
        config.set_hashing_config(_hashing(bundle.path)).sign(bundle.path, path)
        write_file(bundle.path / SIGNATURE_NAME, path.read_bytes())


def check_signature(folder: Path, public_key: Path) -> None:
    """Check that the holder of a key has signed every file of the folder as it is.

    Args:
        folder: A bundle, which need not have been checked.
        public_key: A PEM file with a public key on P-256, P-384 or P-521.

    Raises:
        SignatureError: there is no signature, it is another key's, or a file has changed.
        KeyFileError: there is no such key in the file.
    """
    config, path = _verifying(public_key), folder / SIGNATURE_NAME
    if not path.is_file():
        raise SignatureError(f"{folder} is not signed: it has no {SIGNATURE_NAME}. `recsys sign` makes one.")
    try:
        config.set_hashing_config(_hashing(folder)).verify(folder, path)
    except Exception as error:  # noqa: BLE001  of a forged signature, any
        reason = str(error) or type(error).__name__
        raise SignatureError(
            f"{path} is not a signature of these files by the key in {public_key}: {reason:.300}"
        ) from None


def check_public_key(public_key: Path) -> None:
    """Raise KeyFileError unless the file holds a key that `check_signature` takes."""
    _verifying(public_key)


def _verifying(public_key: Path) -> Any:
    from model_signing import verifying

    config = verifying.Config()  # type: ignore[no-untyped-call]
    try:
        return config.use_elliptic_key_verifier(public_key=public_key)
    except Exception as error:  # noqa: BLE001  as for a private key
        raise _no_key(public_key, "public key", error) from None


def _hashing(folder: Path) -> Any:
    from model_signing import hashing

    # `.git` and the like are no part of a bundle, and are not left out.
    config = hashing.Config()  # type: ignore[no-untyped-call]
    return config.set_ignored_paths(paths=[folder / SIGNATURE_NAME], ignore_git_paths=False)


def _no_key(path: Path, what: str, error: Exception) -> KeyFileError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return KeyFileError(f"{path} holds no {what} on P-256, P-384 or P-521, in PEM: {reason:.200}")
