"""What the Python drivers share: a command per line in, an answer per line out. See ../DRIVERS.md."""

import base64


def from_text(text):
    return None if text is None else base64.b64decode(text)


def to_text(data):
    return None if data is None else base64.b64encode(data).decode()


def seen(record):
    return {
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "timestamp_type": "append" if record.timestamp_type == 1 else "create",
        "key": to_text(record.key),
        "value": to_text(record.value),
        "headers": [[name, to_text(value)] for name, value in record.headers],
    }


def wire(command, record):
    """A record as both libraries' `send` takes it."""
    return {
        "topic": command["topic"],
        "key": from_text(record.get("key")),
        "value": from_text(record.get("value")),
        "headers": [(name, from_text(value)) for name, value in record.get("headers", [])],
        "partition": record.get("partition", 0),
        "timestamp_ms": record.get("timestamp"),
    }


def isolation(command):
    return "read_committed" if command.get("committed") else "read_uncommitted"
