"""What a command prints: streamed by lines, kept within bounds, and searched for outputs.

Memory is bounded whatever the command prints: the first and the last MiB of a stream are kept, the rest is counted and
dropped. Lines go to the log until a budget is used up; after that only outputs are looked for, which is fast.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Capture", "OutputSet", "StreamReader", "is_output_name"]

KEPT_BYTES = 1 << 20
"""How much of the beginning, and of the end, of a stream is kept."""
LOG_BUDGET_BYTES = 8 << 20
"""How much of a stream goes to the log, each line counted with `_LINE_COST` bytes more."""
MAX_OUTPUT_BYTES = 1 << 20
"""How large all outputs of a step may be together."""
MAX_OUTPUTS = 10_000
_MAX_LOG_LINE_BYTES = 64 << 10
_LINE_COST = 64

_MARK = b"##wfe[output "
_PREFIX = b"##wfe["
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}")


def is_output_name(name: str) -> bool:
    """Tell whether an output may be called so: letters, digits, `_`, `-`, at most 128, not beginning with `_wfe`."""
    return _NAME.fullmatch(name) is not None and not name.startswith("_wfe")


class Capture:
    """The first and the last bytes of a stream."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept = kept_bytes
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0

    def add(self, data: bytes) -> None:
        """Take in the next bytes."""
        self._total += len(data)
        room = self._kept - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        # Cut only now and then, so that each byte is moved about once.
        if len(self._tail) > 2 * self._kept:
            del self._tail[: -self._kept]

    @property
    def dropped_bytes(self) -> int:
        """How much lies between the kept beginning and the kept end."""
        return self._total - len(self._head) - min(len(self._tail), self._kept)

    def text(self) -> str:
        """Give what was kept, with a line in between telling how much was left out. Invalid UTF-8 is replaced."""
        tail = self._tail[-self._kept :]
        if not self.dropped_bytes:
            return (self._head + tail).decode("utf-8", "replace")
        gap = f"\n… {self.dropped_bytes} bytes left out …\n"
        return self._head.decode("utf-8", "replace") + gap + tail.decode("utf-8", "replace")


@dataclass
class OutputSet:
    """Outputs of a step as text, in the order in which they came; a later one of the same name replaces the earlier."""

    values: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Markers that could not be used, and why."""
    is_full: bool = False
    """Whether outputs were lost because they exceeded `MAX_OUTPUT_BYTES` or `MAX_OUTPUTS`."""
    _bytes: int = 0
    _count: int = 0

    def set(self, name: str, value: str) -> None:
        """Take in one output, or note why it is refused."""
        if not is_output_name(name):
            self._note(
                f"output name {name[:40]!r} is not valid: letters, digits, _ and -, not beginning with a digit or _wfe"
            )
            return
        if "\0" in value:
            self._note(f"output {name!r} holds a NUL character")
            return
        self._bytes += len(value) + len(name)
        self._count += 1
        if self._bytes > MAX_OUTPUT_BYTES or self._count > MAX_OUTPUTS:
            self.is_full = True
        else:
            self.values[name] = value

    def refuse(self, line: str) -> None:
        """Note a marker that cannot be read."""
        self._note(f"not an output: {line[:80]!r}; expected ##wfe[output name=value] or ##wfe[output name<<END]")

    def _note(self, text: str) -> None:
        if len(self.notes) < 20:  # noqa: PLR2004 - enough to see what is wrong
            self.notes.append(text)


@dataclass
class _Block:
    """A multi-line output that is being read."""

    name: str
    end: bytes
    lines: list[bytes] = field(default_factory=list)
    size: int = 0


class StreamReader:
    """Takes in the bytes of one stream as they come."""

    def __init__(
        self, stream: str, on_line: Callable[[str, str], None], outputs: OutputSet | None, kept_bytes: int = KEPT_BYTES
    ) -> None:
        self.capture = Capture(kept_bytes)
        self._stream = stream
        self._on_line = on_line
        self._outputs = outputs
        self._budget = LOG_BUDGET_BYTES
        self._pending = bytearray()
        """The beginning of a line whose end has not come yet."""
        self._is_continued = False
        """Whether `_pending` goes on a line whose beginning was already passed on."""
        self._block: _Block | None = None

    def feed(self, data: bytes) -> None:
        """Take in the next bytes."""
        self.capture.add(data)
        position = 0
        while position < len(data):
            take = self._skip if self._is_skipping() else self._take_line
            position = take(data, position)

    def finish(self) -> None:
        """Take the stream's end: an unfinished last line counts."""
        if self._pending:
            self._line(bytes(self._pending), ended=True)
            self._pending.clear()
        if self._block is not None and self._outputs is not None:
            self._outputs.refuse(f"{_MARK.decode()}{self._block.name}<<… without its end")
        if self.is_log_full:
            self._on_line(self._stream, "wfe: further lines of this stream were left out of the log")

    @property
    def is_log_full(self) -> bool:
        """Whether lines were left out of the log."""
        return self._budget <= 0

    # --- line by line

    def _take_line(self, data: bytes, position: int) -> int:
        end = data.find(b"\n", position)
        stop = len(data) if end < 0 else end
        limit = self._limit() - len(self._pending)
        if stop - position > limit:
            stop = position + max(limit, 0)
            end = -1
        self._pending += data[position:stop]
        if end >= 0:
            self._line(bytes(self._pending), ended=True)
            self._pending.clear()
            return stop + 1
        if len(self._pending) >= self._limit():
            self._overflow()
        return stop

    def _limit(self) -> int:
        """Give how long a line may grow before it is passed on in parts."""
        is_output = self._block is not None or (not self._is_continued and self._pending.startswith(_PREFIX))
        return MAX_OUTPUT_BYTES + len(_MARK) + 256 if is_output and self._outputs is not None else _MAX_LOG_LINE_BYTES

    def _overflow(self) -> None:
        if self._outputs is not None and self._limit() > _MAX_LOG_LINE_BYTES:
            self._outputs.is_full = True
            self._block = None
            self._line(bytes(self._pending[:_MAX_LOG_LINE_BYTES]), ended=False)
            self._pending.clear()
            return
        cut = _character_boundary(self._pending)
        self._line(bytes(self._pending[:cut]), ended=False)
        del self._pending[:cut]

    def _line(self, line: bytes, *, ended: bool) -> None:
        if ended and not self._is_continued and self._outputs is not None:
            self._look_for_output(line, self._outputs)
        self._is_continued = not ended
        if self._budget > 0:
            self._budget -= len(line) + _LINE_COST
            self._on_line(self._stream, line.removesuffix(b"\r").decode("utf-8", "replace"))

    # --- outputs

    def _look_for_output(self, line: bytes, outputs: OutputSet) -> None:
        if self._block is not None:
            self._go_on_with_block(self._block, line, outputs)
        elif line.startswith(_MARK):
            self._block = _read_marker(line, outputs)

    def _go_on_with_block(self, block: _Block, line: bytes, outputs: OutputSet) -> None:
        if line.removesuffix(b"\r") == block.end:
            outputs.set(block.name, b"\n".join(block.lines).decode("utf-8", "replace"))
            self._block = None
            return
        block.lines.append(line)
        block.size += len(line) + 1
        if block.size > MAX_OUTPUT_BYTES:
            outputs.is_full = True
            self._block = None

    # --- fast: nothing to log any more, only outputs to find

    def _is_skipping(self) -> bool:
        if self._budget > 0 or self._block is not None:
            return False
        # Within a line that may be a marker, go on by lines.
        return not self._may_be_marker()

    def _may_be_marker(self) -> bool:
        if self._outputs is None or self._outputs.is_full or self._is_continued:
            return False
        head = bytes(self._pending[: len(_PREFIX)])
        return bool(head) and _PREFIX.startswith(head)

    def _skip(self, data: bytes, position: int) -> int:
        """Drop bytes up to the next line that may be a marker; give where it begins."""
        if self._outputs is None or self._outputs.is_full:
            self._pending.clear()
            return len(data)
        at_line_start = not self._pending and not self._is_continued
        if at_line_start and _PREFIX.startswith(data[position : position + len(_PREFIX)]):
            return self._take_line(data, position)
        self._pending.clear()
        found = data.find(b"\n" + _PREFIX, position)
        if found >= 0:
            self._is_continued = False
            return found + 1
        return self._skip_to_end(data, position)

    def _skip_to_end(self, data: bytes, position: int) -> int:
        # The end of the data may be the beginning of a marker that goes on in the next piece.
        last = data.rfind(b"\n", position)
        if last >= 0 and _PREFIX.startswith(data[last + 1 : last + 1 + len(_PREFIX)]):
            self._is_continued = False
            return min(len(data), last + 1)
        self._is_continued = True
        return len(data)


def _read_marker(line: bytes, outputs: OutputSet) -> _Block | None:
    text = line.removesuffix(b"\r").decode("utf-8", "replace")
    content = text[len(_MARK) : -1]
    if not text.endswith("]"):
        outputs.refuse(text)
        return None
    name, equals, value = content.partition("=")
    block_name, arrows, end = content.partition("<<")
    if arrows and end and (not equals or len(block_name) < len(name)):
        if is_output_name(block_name.strip()):
            return _Block(block_name.strip(), end.encode())
        outputs.refuse(text)
        return None
    if not equals:
        outputs.refuse(text)
        return None
    outputs.set(name.strip(), value)
    return None


def _character_boundary(data: bytearray) -> int:
    """Give a length at which no UTF-8 character is cut."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:  # noqa: PLR2004 - one byte alone
            return len(data)
        if byte >= 0xC0:  # noqa: PLR2004 - the first byte of a character
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4  # noqa: PLR2004 - UTF-8
            return len(data) if back >= needed else len(data) - back
    return len(data)
