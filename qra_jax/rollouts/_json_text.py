"""A JSON text that is decoded value by value, by the decoder of the standard library."""

import io
import json
from collections.abc import Iterator
from typing import Any

from . import _files
from ._files import Table


class JsonText:
    """A JSON text that is read from its begin to its end, value by value."""

    _decoder = json.JSONDecoder()

    def __init__(self, table: Table, file):
        self._table = table
        self._stream = io.TextIOWrapper(file, encoding="utf-8-sig")
        self._text, self._at, self._line, self._ended = "", 0, 1, False

    def _more(self) -> None:
        rest = self._text[self._at :]
        self._line += self._text.count("\n", 0, self._at)
        try:
            new = self._table.guarded(lambda: self._stream.read(max(_files.BYTES, len(rest))))
        except UnicodeDecodeError as error:
            byte = f"the byte 0x{error.object[error.start]:02x}"
            raise ValueError(f"{self._table.path}: the text must be UTF-8, got {byte}") from None
        self._text, self._at, self._ended = rest + new, 0, not new

    def _fault(self, was: str, at: int) -> ValueError:
        line = self._line + self._text.count("\n", 0, at)
        start = self._text[at : at + 30].split("\n", 1)[0]
        got = repr(start) if self._text[at:].strip() else "the end of the file"
        where = f"{self._table.path}, line {line}: the text must be a whole JSON document"
        return ValueError(f"{where}, got {got} ({was})")

    def peek(self) -> str:
        """The next character that is not a space; empty at the end."""
        while True:
            text, length = self._text, len(self._text)
            while self._at < length and text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < length or self._ended:
                return text[self._at : self._at + 1]
            self._more()

    def _take(self, wanted: str) -> str:
        found = self.peek()
        if not found or found not in wanted:
            raise self._fault(f"Expecting {' or '.join(map(repr, wanted))}", self._at)
        self._at += 1
        return found

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                if end < len(self._text) or self._ended:  # else a number may go on
                    self._at = end
                    return value
            except json.JSONDecodeError as error:
                cut = "Unterminated" in error.msg or error.pos > len(self._text) - 16
                if self._ended or not cut:
                    raise self._fault(error.msg, error.pos) from None
            except (RecursionError, ValueError) as error:
                raise self._fault(str(error), self._at) from None
            self._more()

    def members(self) -> Iterator[str]:
        """The keys of an object; after each, its value is to be read."""
        self._take("{")
        if self.peek() == "}":
            self._take("}")
            return
        while True:
            if self.peek() != '"':
                raise self._fault("Expecting property name enclosed in double quotes", self._at)
            key = self.value()
            self._take(":")
            yield key
            if self._take(",}") == "}":
                return

    def elements(self) -> Iterator[int]:
        """The numbers of the elements of an array, from 0; each is to be read."""
        self._take("[")
        if self.peek() == "]":
            self._take("]")
            return
        number = 0
        while True:
            yield number
            number += 1
            if self._take(",]") == "]":
                return

    def end(self) -> None:
        """Nothing may be left."""
        if self.peek():
            raise self._fault("Extra data", self._at)
