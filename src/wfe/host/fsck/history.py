"""Rules over the log and the errors of one instance, which come in portions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wfe.host.fsck.findings import Problem
from wfe.host.fsck.reading import UNREADABLE, Contents, encode_error, read_error
from wfe.model.lifecycle import LogRecord, decode_records, encode_records
from wfe.model.moment import LAST_MOMENT
from wfe.model.status import LifecycleKind, WorkflowStatus
from wfe.ports.store import ErrorRow, LogRow

__all__ = ["History"]

_RESULTS = {LifecycleKind.STEP_SUCCEEDED, LifecycleKind.STEP_SKIPPED, LifecycleKind.STEP_CANCELLED}

_ENDS = {
    LifecycleKind.WORKFLOW_COMPLETED: WorkflowStatus.COMPLETE,
    LifecycleKind.WORKFLOW_FAILED: WorkflowStatus.FAILED,
    LifecycleKind.WORKFLOW_COMPENSATED: WorkflowStatus.COMPENSATED,
    LifecycleKind.WORKFLOW_CANCELLED: WorkflowStatus.CANCELLED,
    LifecycleKind.WORKFLOW_TERMINATED: WorkflowStatus.TERMINATED,
}


class History:
    """What the log and the errors of an instance have told so far. Keeps one number for each pointer that has ended."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._revision = 0
        self._sequence = 0
        self._run = 1
        self._errors = 0
        self._failures: set[tuple[int, int]] = set()
        self._results: set[int] = set()
        self._ends: list[LifecycleKind] = []
        """Ends announced in the current run."""
        self._last: LifecycleKind | None = None
        self._is_readable = True

    def errors(self, rows: Sequence[ErrorRow]) -> Iterator[Problem]:
        """Look at further errors."""
        for row in rows:
            self._errors += 1
            if row.number != self._errors:
                yield Problem("T1", f"its error {self._errors} is missing: {row.number} follows", "error")
                self._errors = row.number
            try:
                error = read_error(row.error)
            except UNREADABLE as reason:
                yield Problem("T10", f"its error {row.number} cannot be read: {reason}", "error")
                continue
            if encode_error(error) != row.error:
                yield Problem("T10", f"its error {row.number} is not what this version would write", "error")
            if (error.pointer, error.attempt) in self._failures:
                yield Problem("T4", f"two failures of attempt {error.attempt} are recorded", "error", error.pointer)
            self._failures.add((error.pointer, error.attempt))

    def log(self, rows: Sequence[LogRow]) -> Iterator[Problem]:
        """Look at further log rows."""
        for row in rows:
            yield from self._row(row)

    def _row(self, row: LogRow) -> Iterator[Problem]:
        if row.revision != self._revision + 1:
            kind = "again" if row.revision <= self._revision else "next"
            yield Problem("T3", f"revision {row.revision} comes {kind} after {self._revision} in its log", "log")
        created_at = self._contents.stored.created_at
        if row.revision == 1 and row.time != created_at and 0 <= created_at <= LAST_MOMENT:
            yield Problem("T1", f"it began at {created_at} µs, and its log says {row.time} µs")
        self._revision = max(self._revision, row.revision)
        if row.run != self._run:
            yield from self._begin_run(row)
        if row.count and row.first_sequence != self._sequence + 1:
            yield Problem(
                "T1", f"announcement {row.first_sequence} follows {self._sequence} (revision {row.revision})", "log"
            )
        self._sequence = max(self._sequence, row.first_sequence + row.count - 1)
        try:
            records = decode_records(row.records) if row.records else []
        except UNREADABLE as error:
            self._is_readable = False
            yield Problem("T10", f"the announcements of revision {row.revision} cannot be read: {error}", "log")
            return
        if row.records and encode_records(records) != row.records:
            yield Problem("T10", f"the announcements of revision {row.revision} are not as this version writes", "log")
        if len(records) != row.count:
            yield Problem("T1", f"revision {row.revision} has {len(records)} announcements, not {row.count}", "log")
        for record in records:
            yield from self._record(record, row.revision)

    def _begin_run(self, row: LogRow) -> Iterator[Problem]:
        if row.run != self._run + 1:
            yield Problem("T1", f"run {row.run} follows run {self._run} in its log (revision {row.revision})", "log")
        if len(self._ends) != 1:
            yield Problem("T7", f"run {self._run} announced {len(self._ends)} ends", "log")
        self._run, self._ends = row.run, []

    def _record(self, record: LogRecord, revision: int) -> Iterator[Problem]:
        first, self._last = self._last is None, record.kind
        if first and record.kind is not LifecycleKind.WORKFLOW_STARTED and record.kind not in _BEFORE_THE_BEGIN:
            yield Problem("S3", f"the first that it announced is {record.kind.value!r}, not its start", "log")
        if self._ends:
            yield Problem("T7", f"it announced {record.kind.value!r} after its end (revision {revision})", "log")
        if record.kind in _ENDS:
            self._ends.append(record.kind)
        if not record.pointer or record.kind is LifecycleKind.DATA_OVERWRITTEN:
            return
        if record.pointer in self._results:
            rule = "T5" if record.kind is LifecycleKind.STEP_STARTED else "T2"
            what = f"{record.kind.value!r} of step {record.step!r} follows its result (revision {revision})"
            yield Problem(rule, what, "log", record.pointer)
        if record.kind in _RESULTS:
            self._results.add(record.pointer)

    def finished(self) -> Iterator[Problem]:
        """Compare what was told with the state."""
        stored, head = self._contents.stored, self._contents.head
        if self._revision < stored.revision:
            rule = "T3" if self._revision else "S3"
            yield Problem(rule, f"it has revision {stored.revision}, its log ends with {self._revision}", "log")
        elif self._revision > stored.revision:
            yield Problem("T3", f"it has revision {stored.revision}, its log goes on to {self._revision}", "log")
        for number in sorted(self._results.intersection(self._contents.pointers)):
            yield Problem("T2", "its result was announced, and its row is still there", "pointer", number)
        if head is None:
            return
        if head.sequence != self._sequence:
            yield Problem("T1", f"its head counts {head.sequence} announcements, its log {self._sequence}", "log")
        if head.errors != self._errors:
            yield Problem("T1", f"its head counts {head.errors} errors, and {self._errors} are stored", "error")
        if self._run != head.run:
            yield Problem("T1", f"its head says run {head.run}, its log {self._run}", "log")
        if self._is_readable and self._revision == stored.revision:
            yield from self._end(head.status)

    def _end(self, status: WorkflowStatus) -> Iterator[Problem]:
        told = [_ENDS[kind] for kind in self._ends]
        if told != ([status] if status.is_terminal else []):
            ends = ", ".join(each.value for each in told) or "nothing"
            yield Problem("T7", f"it is {status.value}, and the ends that it announced are: {ends}", "log")


_BEFORE_THE_BEGIN = {
    LifecycleKind.WORKFLOW_SUSPENDED,
    LifecycleKind.WORKFLOW_RESUMED,
    LifecycleKind.WORKFLOW_CANCELLED,
    LifecycleKind.WORKFLOW_TERMINATED,
}
"""What may be asked of an instance whose start was put off, before it begins."""
