"""A Triton model repository, parsed with Triton's own protobuf classes and held against the ONNX files."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import onnx
import onnxruntime as ort
import pytest
import runtimes_table
from google.protobuf import text_format

from export.write.bundle import export_run
from export.write.triton import DATA_TYPES, write_repository
from recsys.cli import main
from serve.bundle.bundle import open_bundle
from serve.bundle.conformance import difference, read_conformance
from serve.errors import OutputError

NUMPY_NAMES = {"tensor(int64)": "int64", "tensor(float)": "float32", "tensor(bool)": "bool"}


@pytest.fixture(scope="module")
def protobuf() -> ModuleType:
    """`tritonclient.grpc.model_config_pb2` alone: the package around it would import a whole client."""
    spec = importlib.util.find_spec("tritonclient")
    if spec is None:
        pytest.skip("tritonclient is not installed (`make setup` installs it)")
    path = Path(spec.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parse(protobuf: ModuleType, folder: Path):
    return text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), protobuf.ModelConfig())


@pytest.mark.parametrize("model", runtimes_table.WITH_SHARDS)
def test_every_config_says_what_its_graph_is(protobuf, tmp_path, model) -> None:
    bundle = open_bundle(runtimes_table.WITH_SHARDS[model])
    write_repository(bundle, tmp_path / "models")
    folders = sorted((tmp_path / "models").iterdir())
    assert [folder.name for folder in folders] == sorted(bundle.manifest.graphs)
    for folder in folders:
        assert sorted(path.name for path in folder.iterdir()) == ["1", "config.pbtxt"]
        config = parse(protobuf, folder)
        assert (config.name, config.backend) == (folder.name, "onnxruntime")
        # What the server would otherwise complete (docs/user_guide/model_configuration.md of Triton).
        written = {field.name for field, _ in config.ListFields()}
        assert {"max_batch_size", "input", "output", "instance_group", "model_warmup"} <= written
        assert config.version_policy.latest.num_versions == 1
        assert config.max_batch_size >= 256
        assert config.dynamic_batching.max_queue_delay_microseconds > 0
        (group,) = config.instance_group
        assert group.count == 1
        assert (group.kind == group.KIND_CPU) == (folder.name == "recommend_by_id")
        session = ort.InferenceSession(
            folder / "1" / config.default_model_filename, providers=["CPUExecutionProvider"]
        )
        for written, found in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
            assert [tensor.name for tensor in written] == [value.name for value in found]
            for tensor, value in zip(written, found, strict=True):
                dtype = NUMPY_NAMES.get(value.type, "string")
                assert protobuf.DataType.Name(tensor.data_type) == DATA_TYPES[dtype]
                # The server adds the batch axis to what the config says, and that must be the graph's shape.
                dims = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
                assert list(dims) == [-1 if isinstance(size, str) else size for size in value.shape[1:]]
                assert isinstance(value.shape[0], str)
                assert not tensor.HasField("reshape") or list(tensor.dims) == [1]
        (warmup,) = config.model_warmup
        assert {name: value.data_type for name, value in warmup.inputs.items()} == {
            tensor.name: tensor.data_type for tensor in config.input
        }


def test_shared_tables_lie_beside_the_graphs_that_need_them(tiny_run, tmp_path) -> None:
    export_run(tiny_run("dot-bias"), tmp_path / "bundle", tables_file="always", raw_ids=True)
    bundle = open_bundle(tmp_path / "bundle")
    write_repository(bundle, tmp_path / "models")
    document = read_conformance(bundle.file("conformance.json"))
    for graph, cases in document.graphs.items():
        folder = tmp_path / "models" / graph / "1"
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        external = any(tensor.external_data for tensor in model.graph.initializer)
        assert (folder / "tables.bin").exists() == external
        session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        for case in cases:
            feeds, right = case.arrays()
            found = dict(zip(names, session.run(names, feeds), strict=True))
            assert difference(found, right, bundle.manifest.graphs[graph].tolerance) is None


def test_a_repository_is_only_replaced_when_asked_and_nothing_else_ever(tmp_path) -> None:
    dot, mlp = (open_bundle(runtimes_table.BUNDLES[model]) for model in ("dot", "mlp"))
    output = tmp_path / "models"
    write_repository(dot, output)
    with pytest.raises(OutputError, match="--overwrite"):
        write_repository(mlp, output)
    assert (output / "fold_in").exists()
    write_repository(mlp, output, overwrite=True)
    assert not (output / "fold_in").exists()
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(OutputError, match="isn't ours"):
        write_repository(dot, precious, overwrite=True)
    assert (precious / "letter.txt").read_text(encoding="utf-8") == "dear"


def test_the_command_writes_both_or_refuses_before_the_work(tiny_run, tmp_path, capsys) -> None:
    def export(*more: str | Path) -> int:
        line = ["export", tiny_run("mlp"), "--output", tmp_path / "bundle", "--triton", tmp_path / "models"]
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in [*line, *more]])
        return int(ended.value.code or 0)

    (tmp_path / "models").write_text("a file", encoding="utf-8")
    assert export() == 2
    assert "is a file" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
    (tmp_path / "models").unlink()
    assert export("--triton", tmp_path / "bundle" / "models") == 2
    assert "neither inside the other" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
    assert export("--raw-ids") == 0, capsys.readouterr().err
    assert (tmp_path / "models" / "recommend_by_id" / "1" / "model.onnx").exists()
    assert open_bundle(tmp_path / "bundle").manifest.model.kind == "mlp"
