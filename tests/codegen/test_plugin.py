"""The generator as a plugin of the real protoc."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from tests.codegen.support import PB2_MODULE, POLICY, PROTO, PROTOS, ROOT, contents, protoc, write_proto

from durabletask_payloads_codegen import plugin

if TYPE_CHECKING:
    from pathlib import Path

WALKERS = ROOT / "generated" / "durabletask_payloads_walkers"


def test_protoc_writes_the_walkers_that_are_checked_in(tmp_path: Path) -> None:
    options = f"--durabletask-payloads_opt=policy={POLICY}"
    (tmp_path / "out").mkdir()
    done = protoc(PROTOS, f"--durabletask-payloads_out={tmp_path / 'out'}", options, str(PROTO))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    expected = {
        f"durabletask_payloads_walkers/{name}": text
        for name, text in contents(WALKERS).items()
        if not name.startswith("__pycache__")
    }
    assert contents(tmp_path / "out") == expected


def test_protoc_prints_an_error_and_writes_nothing(tmp_path: Path) -> None:
    proto = write_proto(
        tmp_path,
        "message M { optional string x = 1; google.protobuf.StringValue data = 2; } "
        "message N { google.protobuf.StringValue data = 1; }",
    )
    policy = tmp_path / "policy.toml"
    policy.write_text('[N]\ndata = "payload"\n')
    (tmp_path / "out").mkdir()
    output = f"--durabletask-payloads_out={tmp_path / 'out'}"
    done = protoc(tmp_path, output, f"--durabletask-payloads_opt=policy={policy}", str(proto))
    assert done.returncode == 1
    assert done.stderr == (
        f"--durabletask-payloads_out: {policy}: not classified: M.data "
        "(add each as payload, diagnostic or metadata)\n\n"
        f"# Add to {policy}. Proposals are read off the names classified there: check each.\n\n"
        "[M]\n"
        'data = "payload"  # proposal: as in N.data\n'
    )
    assert contents(tmp_path / "out") == {}


def answer(parameter: str) -> CodeGeneratorResponse:
    request = CodeGeneratorRequest(file_to_generate=["a-b/test.proto"], parameter=parameter)
    file = request.proto_file.add(name="a-b/test.proto", syntax="proto3")
    message = file.message_type.add(name="M")
    message.field.add(name="x", number=1, type=11, label=1, type_name=".google.protobuf.StringValue")
    return plugin.generate(request)


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("", "    from a_b import test_pb2 as pb"),
        ("pb2_module=some.where_pb2", "    from some import where_pb2 as pb"),
        ("pb2_module=where_pb2", "    import where_pb2 as pb"),
        (f"pb2_module={PB2_MODULE}", "    from durabletask.internal import orchestrator_service_pb2 as pb"),
    ],
)
def test_the_module_of_the_classes(tmp_path: Path, option: str, line: str) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[M]\nx = "payload"\n')
    response = answer(",".join(filter(None, [f"policy={policy}", option])))
    assert response.error == ""
    assert response.supported_features == (
        CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL | CodeGeneratorResponse.FEATURE_SUPPORTS_EDITIONS
    )
    files = {file.name: file.content for file in response.file}
    assert line in files["durabletask_payloads_walkers/externalize.py"].splitlines()


def test_an_unknown_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    response = answer("polcy=x.toml")
    assert (
        response.error
        == "option polcy: is unknown, the options are policy, pb2_module, package, plan_module, with_plan, line_length"
    )
    assert not response.file
    monkeypatch.chdir(tmp_path)
    assert answer("").error == "protos/payload_fields.toml: cannot be read: No such file or directory"
