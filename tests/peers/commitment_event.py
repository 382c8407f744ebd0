"""What an N-EVENT-REPORT of storage commitment says, as JSON."""


def described(event):
    result = event.event_information

    def references(keyword, *more):
        items = result.get(keyword) or []
        keywords = ["ReferencedSOPClassUID", "ReferencedSOPInstanceUID", *more]
        return [[item.get(each) for each in keywords] for item in items]

    return {
        "type": event.event_type,
        "transaction": result.TransactionUID,
        "committed": references("ReferencedSOPSequence"),
        "failed": references("FailedSOPSequence", "FailureReason"),
    }
