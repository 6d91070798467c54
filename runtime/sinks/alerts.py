"""Options of alerts, and what they open: commands, webhooks and evidence, shared by all sources of a run.

with closing(Alerts(AlertOptions(webhook="https://example.org/alerts"), say)) as alerts:
    sinks += alerts.sinks()                          # for each source
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from runtime.sinks import Sink
from runtime.sinks.changes import DEBOUNCE, ChangeSink
from runtime.sinks.evidence import EvidenceSink, EvidenceStore, check_limit
from runtime.sinks.on_change import OnChange, split
from runtime.support.errors import ShrikeError

if TYPE_CHECKING:
    from runtime.sinks.webhook import Webhook

HEARTBEATS = (1.0, 86_400.0)  # s, the shortest and the longest


@dataclass(frozen=True)
class AlertOptions:
    """Reports of changes of the state; docs/alerts.md describes them."""

    on_change: str = ""
    """Run this command at every change of the state, without a shell; the change is JSON on its stdin."""
    webhook: str = ""
    """Post every change of the state as JSON to this http or https URL."""
    keep_evidence: Optional[Path] = None  # noqa: UP045 - runtime.support.command gives the reason
    """Keep the last 10 s of sound before every change to spoof in this folder, as FLAC."""
    evidence_mb: float = 500.0
    """Size limit of --keep-evidence in MB; the oldest files are removed first."""
    debounce: float = DEBOUNCE
    """Seconds of sound that a state must last before it is reported as a change."""

    changes: bool = False
    """With --json, write changes of the state and heartbeats instead of every verdict."""
    heartbeat: float = 60.0
    """Seconds between the heartbeats of --changes."""

    def check(self) -> None:
        """Validate without opening anything."""
        ChangeSink([], self.debounce)
        if not HEARTBEATS[0] <= self.heartbeat <= HEARTBEATS[1]:
            raise ShrikeError(f"--heartbeat {self.heartbeat:g}: expected {HEARTBEATS[0]:g} to {HEARTBEATS[1]:,g} s")
        if self.on_change:
            split(self.on_change)
        if self.webhook:
            from runtime.sinks.webhook import check_url

            check_url(self.webhook)
        if self.keep_evidence:
            check_limit(self.evidence_mb)


class Alerts:
    """Open receivers of changes."""

    def __init__(self, options: AlertOptions, say: Callable[[str], None]) -> None:
        """`say` gets one line about each failure."""
        self._debounce = options.debounce
        self._receivers = list["OnChange | Webhook"]()
        self._store: EvidenceStore | None = None
        if options.on_change:
            self._receivers.append(OnChange(options.on_change, say))
        if options.webhook:
            from runtime.sinks.webhook import Webhook

            self._receivers.append(Webhook(options.webhook, say))
        if options.keep_evidence:
            self._store = EvidenceStore(options.keep_evidence, options.evidence_mb, say)

    @property
    def failed(self) -> bool:
        """True if evidence was lost; complete after `close`."""
        return self._store is not None and self._store.failed

    def sinks(self) -> list[Sink]:
        """Return new sinks for one source."""
        sinks: list[Sink] = []
        if self._receivers:
            sinks.append(ChangeSink([receiver.send for receiver in self._receivers], self._debounce))
        if self._store:
            sinks.append(EvidenceSink(self._store, self._debounce))
        return sinks

    def close(self) -> None:
        """Flush everything, for a few seconds at most; a second call does nothing."""
        for receiver in self._receivers:
            receiver.close()
        if self._store:
            self._store.close()
