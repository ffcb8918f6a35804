//! The whole answer to "what happens to this URL?": the connection guard's part, which stands in front of the journey, and the journey.

use super::listen;
use crate::plan::Plan;
use crate::proxy::explain::{self, AskError, Asked, Explanation, Live, Outcome};

/// Tells what happens to a request under a plan.
///
/// # Errors
/// [`AskError`] where there is no such request.
pub fn explain(plan: &Plan, asked: &Asked, live: Option<&Live<'_>>) -> Result<Explanation, AskError> {
    explain::explain(plan, asked, &listen::refusal, live)
}

/// The part of it that two configurations are compared by, quick enough for every request of a log.
///
/// # Errors
/// [`AskError`] where there is no such request.
pub fn outcome(plan: &Plan, asked: &Asked) -> Result<Outcome, AskError> {
    explain::outcome(plan, asked, &listen::refusal)
}
