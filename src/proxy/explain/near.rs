//! Why a route takes a request, and why others do not, in words.

use super::explanation::{NearMiss, Reason, Taken};
use crate::exchange::Exchange;
use crate::plan::router::{HostPattern, Lost, Near, Precedence, Unmet};
use crate::plan::{Plan, Route};
use crate::policy::told::either;

/// The most routes that are told of beside the one that takes the request.
pub(super) const MOST: usize = 5;

pub(super) fn taken(plan: &Plan, route: &Route, rivals: usize) -> Taken {
    let pattern = plan.pattern(route).map_or_else(String::new, |(kind, text)| format!("`{kind}: {text}`"));
    let because = if rivals == 0 {
        format!("its path {pattern} matches, and so does all else that it asks for")
    } else {
        format!(
            "its path {pattern} matches, and so does all else that it asks for; it goes before {}",
            others(rivals)
        )
    };
    Taken { name: route.name.to_string(), place: place(route), because }
}

fn others(rivals: usize) -> String {
    if rivals == 1 {
        "another route that matches".to_owned()
    } else {
        format!("{rivals} other routes that match")
    }
}

fn place(route: &Route) -> String {
    route.section.place().to_string()
}

pub(super) fn misses(
    plan: &Plan,
    near: Vec<Near>,
    exchange: &Exchange,
    winner: Option<&Route>,
) -> Vec<NearMiss> {
    let told = |near: Near| {
        let route = plan.routes.get(near.index)?;
        let reasons = near.lost.iter().map(|lost| reason(lost, exchange, winner)).collect();
        Some(NearMiss { route: route.name.to_string(), place: place(route), reasons })
    };
    // Where one takes it, only those are worth telling that would have but for one thing.
    let near = near.into_iter().filter(|near| winner.is_none() || near.lost.len() == 1);
    near.filter_map(told).collect()
}

fn reason(lost: &Lost, exchange: &Exchange, winner: Option<&Route>) -> Reason {
    let unmet =
        |what: &str, Unmet { name, wanted }: &Unmet| format!("the {what} `{name}` must have {wanted}");
    let (what, words) = match lost {
        Lost::Host(hosts) => {
            let hosts: Vec<String> = hosts.iter().map(host).collect();
            ("host", format!("its host is {}, not `{}`", either(&hosts), exchange.host))
        }
        Lost::Path { kind, pattern, shared } => {
            let agrees = if shared.is_empty() {
                String::new()
            } else {
                format!("; the request agrees with it up to `{shared}`")
            };
            ("path", format!("its path is `{kind}: {pattern}`{agrees}"))
        }
        Lost::Method(methods) => {
            let methods: Vec<&str> = methods.iter().map(http::Method::as_str).collect();
            ("method", format!("its method is {}, not `{}`", either(&methods), exchange.method))
        }
        Lost::Header(field) => ("header", unmet("header", field)),
        Lost::Query(field) => ("query", unmet("query parameter", field)),
        Lost::Weaker(by) => {
            let winner = winner.map_or("another", |route| route.name.as_str());
            ("precedence", format!("it matches too, but `{winner}` {}", before(*by)))
        }
    };
    Reason { what: what.to_owned(), words }
}

fn host(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(host) => host.clone(),
        HostPattern::Suffix(suffix) => format!("*{suffix}"),
    }
}

fn before(by: Precedence) -> &'static str {
    match by {
        Precedence::Host => "names the host more exactly",
        Precedence::PathKind => {
            "has the more exact kind of path: `exact` goes before `template`, `regex` and `prefix`, in this order"
        }
        Precedence::PathLength => "has the longer path",
        Precedence::Method => "names the method",
        Precedence::Headers => "asks for more headers",
        Precedence::QueryParameters => "asks for more query parameters",
        Precedence::Head => "names HEAD itself",
        Precedence::Name => "comes first in the alphabet",
    }
}
