# Source: durabletask/largepayloads/large_payload_purge.proto
# Generator: durabletask-payloads-codegen 1.2
# DO NOT EDIT: run make generate
"""Stubs and servicers of durabletask/largepayloads/large_payload_purge.proto, for any release of grpcio from 1.60 on.

The stub beside this file has their types.
"""

import grpc

from . import large_payload_purge_pb2 as pb


class LargePayloadPurgeStub:
    """A client of microsoft.durabletask.largepayloads.LargePayloadPurge."""

    def __init__(self, channel):
        self.SetLargePayloadAutoPurge = channel.unary_unary(
            "/microsoft.durabletask.largepayloads.LargePayloadPurge/SetLargePayloadAutoPurge",
            request_serializer=pb.SetLargePayloadAutoPurgeRequest.SerializeToString,
            response_deserializer=pb.SetLargePayloadAutoPurgeResponse.FromString,
        )
        self.GetLargePayloadTombstones = channel.unary_unary(
            "/microsoft.durabletask.largepayloads.LargePayloadPurge/GetLargePayloadTombstones",
            request_serializer=pb.GetLargePayloadTombstonesRequest.SerializeToString,
            response_deserializer=pb.GetLargePayloadTombstonesResponse.FromString,
        )
        self.ReportLargePayloadPurgeResults = channel.unary_unary(
            "/microsoft.durabletask.largepayloads.LargePayloadPurge/ReportLargePayloadPurgeResults",
            request_serializer=pb.ReportLargePayloadPurgeResultsRequest.SerializeToString,
            response_deserializer=pb.ReportLargePayloadPurgeResultsResponse.FromString,
        )


class LargePayloadPurgeServicer:
    """A server of microsoft.durabletask.largepayloads.LargePayloadPurge."""

    def SetLargePayloadAutoPurge(self, request, context):
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "SetLargePayloadAutoPurge is not implemented")

    def GetLargePayloadTombstones(self, request, context):
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "GetLargePayloadTombstones is not implemented")

    def ReportLargePayloadPurgeResults(self, request, context):
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "ReportLargePayloadPurgeResults is not implemented")


def add_LargePayloadPurgeServicer_to_server(servicer, server):
    handlers = {
        "SetLargePayloadAutoPurge": grpc.unary_unary_rpc_method_handler(
            servicer.SetLargePayloadAutoPurge,
            request_deserializer=pb.SetLargePayloadAutoPurgeRequest.FromString,
            response_serializer=pb.SetLargePayloadAutoPurgeResponse.SerializeToString,
        ),
        "GetLargePayloadTombstones": grpc.unary_unary_rpc_method_handler(
            servicer.GetLargePayloadTombstones,
            request_deserializer=pb.GetLargePayloadTombstonesRequest.FromString,
            response_serializer=pb.GetLargePayloadTombstonesResponse.SerializeToString,
        ),
        "ReportLargePayloadPurgeResults": grpc.unary_unary_rpc_method_handler(
            servicer.ReportLargePayloadPurgeResults,
            request_deserializer=pb.ReportLargePayloadPurgeResultsRequest.FromString,
            response_serializer=pb.ReportLargePayloadPurgeResultsResponse.SerializeToString,
        ),
    }
    handler = grpc.method_handlers_generic_handler("microsoft.durabletask.largepayloads.LargePayloadPurge", handlers)
    server.add_generic_rpc_handlers((handler,))
