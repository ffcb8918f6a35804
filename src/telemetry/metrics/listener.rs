//! What is counted per listener: connections, and the answers that no route gave.

use super::catalogue::Metric;
use super::cells::{Active, ActiveGuard, Count, Counts, Sharded};
use super::labels::{AnswerReason, CutReason, Label, Outcome, Protocol, RefusedReason};
use super::scrape::Samples;
use super::status::CodeCounts;

#[derive(Debug, Default)]
struct Cells {
    opened: Counts<Protocol, { Protocol::COUNT }>,
    closed: Count,
    handshakes: Counts<Outcome, { Outcome::COUNT }>,
    refused: Counts<RefusedReason, { RefusedReason::COUNT }>,
    cut: Counts<CutReason, { CutReason::COUNT }>,
    answered: [CodeCounts; AnswerReason::COUNT],
}

/// The counters of one listener.
#[derive(Debug, Default)]
pub struct ListenerMetrics {
    cells: Sharded<Cells>,
    active: Active,
}

impl ListenerMetrics {
    /// Counts one request in flight until the guard is dropped.
    pub fn active(&self) -> ActiveGuard {
        self.active.enter()
    }

    /// Counts a connection that was taken, once its protocol is known.
    pub fn connection_opened(&self, protocol: Protocol) {
        self.cells.local().opened.add(protocol);
    }

    /// Counts the end of a connection for which [`ListenerMetrics::connection_opened`] was called.
    pub fn connection_closed(&self) {
        self.cells.local().closed.add(1);
    }

    /// Counts a TLS handshake that was completed (`ok`) or not.
    pub fn handshake(&self, ok: bool) {
        self.cells.local().handshakes.add(Outcome::from(ok));
    }

    /// Counts a connection that was not taken.
    pub fn refused(&self, reason: RefusedReason) {
        self.cells.local().refused.add(reason);
    }

    /// Counts an answer that was given before a route could be looked for.
    pub fn answered(&self, status: u16, reason: AnswerReason) {
        if let Some(codes) = self.cells.local().answered.get(reason.index()) {
            codes.add(status);
        }
    }

    /// Counts a connection that the gateway ended before its time.
    pub fn cut(&self, reason: CutReason) {
        self.cells.local().cut.add(reason);
    }

    pub(super) fn collect(&self, listener: &str, samples: &mut Samples) {
        let labels = &[listener];
        samples.whole(Metric::RequestsActive, labels, self.active.value());
        // The ends first: what opens and closes in between is then never counted as closed only.
        let closed = self.cells.sum(|cells| cells.closed.value());
        let opened = self
            .cells
            .sum(|cells| Protocol::ALL.iter().map(|protocol| cells.opened.of(*protocol).value()).sum());
        samples.whole(Metric::ConnectionsActive, labels, opened.saturating_sub(closed));
        samples.counts(Metric::ConnectionsTotal, labels, &self.cells, |cells| &cells.opened);
        samples.counts(Metric::TlsHandshakesTotal, labels, &self.cells, |cells| &cells.handshakes);
        samples.counts(Metric::ConnectionsRefusedTotal, labels, &self.cells, |cells| &cells.refused);
        samples.counts(Metric::ConnectionsCutTotal, labels, &self.cells, |cells| &cells.cut);
        for reason in AnswerReason::ALL {
            samples.codes(
                Metric::ListenerResponsesTotal,
                &[listener, reason.as_str()],
                &self.cells,
                |cells| cells.answered.get(reason.index()),
            );
        }
    }
}
