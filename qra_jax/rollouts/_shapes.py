"""What the values of nested rows are: names with dots, lists of records, chats."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# How deep names with dots go, and how many there may be: more are keys that are data.
_DEPTH, _MOST = 4, 2000
VALUE, LIST, RECORD, RECORDS, CHAT = "value", "list", "record", "records", "chat"


def is_chat(value: Any) -> bool:
    """Whether a value is a list of messages: `{"role": ..., "content": ...}`, or `{"from": ...,
    "value": ...}`."""
    return isinstance(value, list) and bool(value) and all(map(_is_message, value))


def _is_message(part: Any) -> bool:
    return isinstance(part, dict) and (
        ("role" in part and "content" in part) or ("from" in part and "value" in part)
    )


def _by_model(message: Mapping[str, Any]) -> bool:
    return message.get("role", message.get("from")) in ("assistant", "model", "ai", "gpt")


def reached(value: Any, parts: Sequence[str]) -> Any:
    """What lies at a name with dots; in a list of records, the list of what lies in each."""
    for at, part in enumerate(parts):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list):
            return [reached(entry, parts[at:]) for entry in value]
        else:
            return None
    return value


def shapes(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Of every name, those with dots included, what kind of value it has."""
    found: dict[str, str] = {}
    empty: dict[str, str] = {}
    for row in rows:
        _shapes(row, "", _DEPTH, found, empty)
    return {**empty, **found}


def _shapes(
    row: Mapping[str, Any],
    before: str,
    depth: int,
    found: dict[str, str],
    empty: dict[str, str],
) -> None:
    for key, value in row.items():
        name = f"{before}{key}"
        if before and len(found) >= _MOST and name not in found:
            return
        inside: Sequence[Mapping[str, Any]] = ()
        shape = VALUE
        if isinstance(value, dict):
            shape, inside = RECORD, (value,)
        elif is_chat(value):
            shape = CHAT
        elif isinstance(value, list):
            records = bool(value) and all(isinstance(part, dict) for part in value)
            shape, inside = (RECORDS, value[:3]) if records else (LIST, ())
        # The first value that is there counts: a later one of another kind is a fault.
        if value is None or value == []:
            empty.setdefault(name, shape)
        else:
            found.setdefault(name, shape)
        if depth > 1:
            for part in inside:
                _shapes(part, f"{name}.", depth - 1, found, empty)


def joined(value: Any) -> Any:
    """A question as one text: of a chat, what its messages say, but for an answer at its end; of a
    record, its content."""
    if is_chat(value):
        asked = value[:-1] if _by_model(value[-1]) else value
        return "\n".join(filter(None, map(_content, asked)))
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        return value["content"]
    return value


def said(value: Any) -> Any:
    """What a model said: of a chat, its last message of the assistant; of a list, each one's."""
    if is_chat(value):
        last = [part for part in value if _by_model(part)]
        return _content((last or value)[-1])
    if isinstance(value, list):
        return [said(part) for part in value]
    if isinstance(value, dict):
        for key in ("completion", "text", "content", "generated_text", "message"):
            if isinstance(value.get(key), (str, dict)):
                return said(value[key])
        if isinstance(value.get("content"), list):
            return _content(value)
        for key in ("text", "choices", "outputs"):
            if isinstance(value.get(key), list):
                return said(value[key])
    return value


def _content(message: Mapping[str, Any]) -> Any:
    """The text of a message, which may come in parts; None where there is none."""
    content = message.get("content", message.get("value"))
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part, dict) else part for part in content]
        return "\n".join(text for text in texts if isinstance(text, str))
    return content
