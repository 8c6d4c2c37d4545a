# Source: durabletask/largepayloads/large_payload_purge.proto
# Generator: durabletask-payloads-codegen 1.2
# DO NOT EDIT: run make generate
"""The classes of durabletask/largepayloads/large_payload_purge.proto, in a descriptor pool of their own.

So they can be imported beside any other copy of that file, with any release of protobuf from 4.25 on. The stub beside
this file has their types.
"""

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.internal import enum_type_wrapper

DESCRIPTOR = descriptor_pool.DescriptorPool().AddSerializedFile(
    b"\n3durabletask/largepaylo"
    b"ads/large_payload_purge."
    b"proto\x12#microsoft.durable"
    b'task.largepayloads"2\n\x1fSe'
    b"tLargePayloadAutoPurgeRe"
    b'quest\x12\x0f\n\x07enabled\x18\x01 \x01(\x08""'
    b"\n SetLargePayloadAutoPur"
    b'geResponse"1\n GetLargePa'
    b"yloadTombstonesRequest\x12\r"
    b'\n\x05limit\x18\x01 \x01(\x05"s\n!GetLarg'
    b"ePayloadTombstonesRespon"
    b"se\x12N\n\ntombstones\x18\x01 \x03(\x0b2:"
    b".microsoft.durabletask.l"
    b"argepayloads.LargePayloa"
    b'dTombstone"G\n\x15LargePaylo'
    b"adTombstone\x12\x17\n\x0ftombstone"
    b"_token\x18\x01 \x01(\t\x12\x15\n\rpayload_"
    b'token\x18\x02 \x01(\t"v\n%ReportLar'
    b"gePayloadPurgeResultsReq"
    b"uest\x12M\n\x07results\x18\x01 \x03(\x0b2<."
    b"microsoft.durabletask.la"
    b"rgepayloads.LargePayload"
    b'PurgeResult"(\n&ReportLar'
    b"gePayloadPurgeResultsRes"
    b'ponse"\x8a\x01\n\x17LargePayloadPu'
    b"rgeResult\x12\x17\n\x0ftombstone_t"
    b"oken\x18\x01 \x01(\t\x12V\n\x0bdispositio"
    b"n\x18\x02 \x01(\x0e2A.microsoft.dura"
    b"bletask.largepayloads.La"
    b"rgePayloadPurgeDispositi"
    b"on*\xd8\x01\n\x1cLargePayloadPurge"
    b"Disposition\x12/\n+LARGE_PAY"
    b"LOAD_PURGE_DISPOSITION_U"
    b"NSPECIFIED\x10\x00\x12+\n'LARGE_PA"
    b"YLOAD_PURGE_DISPOSITION_"
    b"DELETED\x10\x01\x12)\n%LARGE_PAYLO"
    b"AD_PURGE_DISPOSITION_RET"
    b"RY\x10\x02\x12/\n+LARGE_PAYLOAD_PU"
    b"RGE_DISPOSITION_QUARANTI"
    b"NED\x10\x032\xa6\x04\n\x11LargePayloadPu"
    b"rge\x12\xa7\x01\n\x18SetLargePayloadA"
    b"utoPurge\x12D.microsoft.dur"
    b"abletask.largepayloads.S"
    b"etLargePayloadAutoPurgeR"
    b"equest\x1aE.microsoft.durab"
    b"letask.largepayloads.Set"
    b"LargePayloadAutoPurgeRes"
    b"ponse\x12\xaa\x01\n\x19GetLargePayloa"
    b"dTombstones\x12E.microsoft."
    b"durabletask.largepayload"
    b"s.GetLargePayloadTombsto"
    b"nesRequest\x1aF.microsoft.d"
    b"urabletask.largepayloads"
    b".GetLargePayloadTombston"
    b"esResponse\x12\xb9\x01\n\x1eReportLar"
    b"gePayloadPurgeResults\x12J."
    b"microsoft.durabletask.la"
    b"rgepayloads.ReportLargeP"
    b"ayloadPurgeResultsReques"
    b"t\x1aK.microsoft.durabletas"
    b"k.largepayloads.ReportLa"
    b"rgePayloadPurgeResultsRe"
    b"sponseb\x06proto3"
)

SetLargePayloadAutoPurgeRequest = message_factory.GetMessageClass(
    DESCRIPTOR.message_types_by_name["SetLargePayloadAutoPurgeRequest"]
)
SetLargePayloadAutoPurgeResponse = message_factory.GetMessageClass(
    DESCRIPTOR.message_types_by_name["SetLargePayloadAutoPurgeResponse"]
)
GetLargePayloadTombstonesRequest = message_factory.GetMessageClass(
    DESCRIPTOR.message_types_by_name["GetLargePayloadTombstonesRequest"]
)
GetLargePayloadTombstonesResponse = message_factory.GetMessageClass(
    DESCRIPTOR.message_types_by_name["GetLargePayloadTombstonesResponse"]
)
LargePayloadTombstone = message_factory.GetMessageClass(DESCRIPTOR.message_types_by_name["LargePayloadTombstone"])
ReportLargePayloadPurgeResultsRequest = message_factory.GetMessageClass(
    DESCRIPTOR.message_types_by_name["ReportLargePayloadPurgeResultsRequest"]
)
ReportLargePayloadPurgeResultsResponse = message_factory.GetMessageClass(
    DESCRIPTOR.message_types_by_name["ReportLargePayloadPurgeResultsResponse"]
)
LargePayloadPurgeResult = message_factory.GetMessageClass(DESCRIPTOR.message_types_by_name["LargePayloadPurgeResult"])

LargePayloadPurgeDisposition = enum_type_wrapper.EnumTypeWrapper(
    DESCRIPTOR.enum_types_by_name["LargePayloadPurgeDisposition"]
)
LARGE_PAYLOAD_PURGE_DISPOSITION_UNSPECIFIED = 0
LARGE_PAYLOAD_PURGE_DISPOSITION_DELETED = 1
LARGE_PAYLOAD_PURGE_DISPOSITION_RETRY = 2
LARGE_PAYLOAD_PURGE_DISPOSITION_QUARANTINED = 3
