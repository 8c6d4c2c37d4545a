"""An upgrade of the protos: what it changes, which new fields have to be classified, and the walkers it gives.

    python proto_upgrade.py

It runs the commands of an upgrade on a small project in a temporary folder, and prints what they print.
Needs `durabletask-payloads[codegen]`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = """\
[tool.durabletask-payloads-codegen]
package = "shipping_walkers"
output = "src"
"""
OLD = """\
syntax = "proto3";
import "google/protobuf/wrappers.proto";

message ShipRequest {
  string order = 1;
  google.protobuf.StringValue input = 2;
}
message ShipResponse { google.protobuf.StringValue output = 1; }

service Shipping {
  rpc Ship(ShipRequest) returns (ShipResponse);
}
"""
NEW = OLD.replace(
    "service Shipping {",
    """\
message CancelRequest {
  string order = 1;
  google.protobuf.StringValue input = 2;
}

service Shipping {
  rpc Cancel(CancelRequest) returns (ShipResponse);""",
)
POLICY = """\
[ShipRequest]
input = "payload"

[ShipResponse]
output = "payload"
"""


# --8<-- [start:main]
def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        for name in ("protos", "upgraded"):
            (project / name).mkdir()
        policy = project / "protos/payload_fields.toml"
        policy.write_text(POLICY, encoding="utf-8")
        (project / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
        (project / "protos/shipping.proto").write_text(OLD, encoding="utf-8")
        run(project, "generate")

        # What does the upgrade change?
        (project / "upgraded/shipping.proto").write_text(NEW, encoding="utf-8")
        run(project, "diff", "protos", "upgraded")

        # It stops at the new field, prints the lines to add, and writes nothing.
        (project / "protos/shipping.proto").write_text(NEW, encoding="utf-8")
        run(project, "generate")

        # Once the field is classified it is a payload as any other.
        policy.write_text(POLICY + '\n[CancelRequest]\ninput = "payload"\n', encoding="utf-8")
        run(project, "generate")
        run(project, "fields")


# --8<-- [end:main]


def run(project: Path, *arguments: str) -> None:
    print("$ durabletask-payloads-codegen", *arguments, flush=True)
    command = [sys.executable, "-m", "durabletask_payloads_codegen.cli", *arguments]
    done = subprocess.run(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout, f"(exit code {done.returncode})", sep="", end="\n\n")


if __name__ == "__main__":
    main()
