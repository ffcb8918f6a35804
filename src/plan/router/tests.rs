//! Precedence by example, and against a scan of all routes.

use super::*;
use proptest::prelude::*;
use regex::Regex;

fn route(name: &str, path: PathPattern) -> RouteMatch {
    RouteMatch { name: name.into(), path, ..RouteMatch::default() }
}

fn exact(text: &str) -> PathPattern {
    PathPattern::Exact(text.into())
}

fn prefix(text: &str) -> PathPattern {
    PathPattern::Prefix(text.into())
}

fn template(text: &str) -> PathPattern {
    PathPattern::Template(text.into())
}

fn regex(text: &str) -> PathPattern {
    PathPattern::Regex(text.into())
}

fn field(name: &str, value: &str) -> FieldMatch {
    FieldMatch { name: name.into(), value: FieldValue::Exact(value.into()) }
}

fn host(text: &str) -> HostPattern {
    match text.strip_prefix('*') {
        Some(suffix) => HostPattern::Suffix(suffix.into()),
        None => HostPattern::Exact(text.into()),
    }
}

fn no_header<'a>(_: &str) -> Option<&'a str> {
    None
}

fn get<'a>(host: &'a str, path: &'a str) -> Query<'a> {
    Query { method: &Method::GET, host, path, query: None, header: &no_header }
}

/// The name of the route taken, or what else came of it.
fn taken(routes: &[RouteMatch], query: &Query<'_>) -> String {
    match Router::assemble(routes).expect("patterns are right").find(query) {
        Found::Route { index, .. } => routes.get(index).expect("an index of ours").name.clone(),
        Found::MethodNotAllowed { allow } => format!("{allow:?}"),
        Found::NotFound => String::from("-"),
    }
}

#[test]
fn the_more_specific_path_wins() {
    let routes = [
        route("root", prefix("/")),
        route("regex", regex("/r[0-9]+")),
        route("api", prefix("/api/")),
        route("v1", prefix("/api/v1")),
        route("user", template("/api/users/{id}")),
        route("any-user", template("/api/{kind}/{id}")),
        route("me", exact("/api/users/me")),
    ];
    for (path, name) in [
        ("/api/users/me", "me"),
        ("/api/users/7", "user"),
        ("/api/posts/7", "any-user"),
        ("/api/users/", "api"),
        ("/api/users/7/", "api"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api/v1", "v1"),
        ("/api/v1/x/y", "v1"),
        ("/api/v10", "api"),
        ("/apix", "root"),
        ("/", "root"),
        ("/r1", "regex"),
        ("/r1x", "root"),
    ] {
        assert_eq!(taken(&routes, &get("a", path)), name, "{path}");
    }
    assert_eq!(taken(&routes[1..], &get("a", "/r12")), "regex");
    assert_eq!(taken(&routes[1..], &get("a", "/r12/")), "-", "an expression matches whole paths");
}

#[test]
fn the_more_specific_host_wins_and_others_are_asked_next() {
    let with_host =
        |name: &str, pattern: &str, path| RouteMatch { hosts: vec![host(pattern)], ..route(name, path) };
    let routes = [
        route("any", exact("/x")),
        with_host("example", "*.example", prefix("/")),
        with_host("a", "*.a.example", prefix("/a")),
        with_host("b", "b.a.example", prefix("/a/b")),
    ];
    for (host, path, name) in [
        ("b.a.example", "/a/b", "b"),
        ("b.a.example", "/a/c", "a"),
        ("b.a.example", "/x", "example"),
        ("c.d.a.example", "/a", "a"),
        ("a.example", "/a", "example"),
        ("example", "/x", "any"),
        ("example", "/y", "-"),
        ("b.a.example.", "/a/b", "-"),
    ] {
        assert_eq!(taken(&routes, &get(host, path)), name, "{host}{path}");
    }
}

#[test]
fn method_then_headers_then_query_then_name() {
    let routes = [
        route("z", prefix("/")),
        RouteMatch { headers: vec![field("X-A", "1"), field("X-B", "1")], ..route("y", prefix("/")) },
        RouteMatch { methods: vec![Method::GET], ..route("x", prefix("/")) },
        RouteMatch {
            headers: vec![field("x-a", "1")],
            query: vec![field("q", "1")],
            ..route("w", prefix("/"))
        },
    ];
    let header = |name: &str| (name == "x-a" || name == "x-b").then_some("1");
    let post = Query { method: &Method::POST, query: Some("q=1"), header: &header, ..get("a", "/") };
    assert_eq!(taken(&routes, &Query { method: &Method::GET, ..post }), "x");
    assert_eq!(taken(&routes, &post), "y");
    assert_eq!(taken(&routes[2..], &post), "w");
    assert_eq!(taken(&routes, &Query { header: &no_header, ..post }), "z");
    assert_eq!(taken(&[route("b", prefix("/")), route("a", prefix("/"))], &post), "a");
}

#[test]
fn head_takes_the_routes_of_get_after_its_own() {
    let with = |name: &str, method| RouteMatch { methods: vec![method], ..route(name, prefix("/")) };
    let head = Query { method: &Method::HEAD, ..get("a", "/") };
    assert_eq!(taken(&[with("a", Method::GET)], &head), "a");
    assert_eq!(taken(&[with("a", Method::GET), with("b", Method::HEAD)], &head), "b");
    assert_eq!(
        taken(&[with("a", Method::GET), route("b", prefix("/"))], &head),
        "a",
        "a method named wins over none"
    );
    assert_eq!(taken(&[with("a", Method::POST)], &head), "[POST]");
}

#[test]
fn a_wrong_method_says_which_are_right() {
    let routes = [
        RouteMatch { methods: vec![Method::POST, Method::GET], ..route("a", prefix("/a")) },
        RouteMatch { methods: vec![Method::PUT], hosts: vec![host("h")], ..route("b", template("/a/{x}")) },
        RouteMatch {
            methods: vec![Method::PATCH],
            headers: vec![field("x", "1")],
            ..route("c", regex(".*"))
        },
    ];
    let delete = |host, path| Query { method: &Method::DELETE, ..get(host, path) };
    assert_eq!(taken(&routes, &delete("h", "/a/1")), "[GET, HEAD, POST, PUT]", "over all hosts that match");
    assert_eq!(taken(&routes, &delete("i", "/a/1")), "[GET, HEAD, POST]");
    assert_eq!(
        taken(&routes, &delete("i", "/b")),
        "-",
        "without its header it is no match but for the method"
    );
}

#[test]
fn template_parameters_come_with_the_route() {
    let routes = [route("a", template("/u/{user}/p/{post}"))];
    let router = Router::build(&routes).expect("right");
    let found = router.find(&get("a", "/u/a%20b/p/7"));
    assert_eq!(found, Found::Route { index: 0, params: vec![("user", "a%20b"), ("post", "7")] });
    assert_eq!(router.find(&get("a", "/u//p/7")), Found::NotFound, "a parameter is never empty");
}

#[test]
fn patterns_that_cannot_be_read_are_all_reported() {
    let routes = [
        route("a", exact("x")),
        route("b", template("/{x}y")),
        route("c", regex("(")),
        RouteMatch {
            headers: vec![FieldMatch { name: "x".into(), value: FieldValue::Regex("[".into()) }],
            ..route("d", prefix("/"))
        },
    ];
    let problems = Router::build(&routes).expect_err("four problems");
    assert!(
        matches!(
            &*problems,
            [
                RouteProblem::BadPath { route: 0, .. },
                RouteProblem::BadTemplate { route: 1, .. },
                RouteProblem::BadRegex { route: 2, .. },
                RouteProblem::BadRegex { route: 3, .. },
            ]
        ),
        "{problems:?}"
    );
}

#[test]
fn routes_that_match_the_same_are_a_conflict() {
    let both = |a: RouteMatch, b: RouteMatch| Router::build(&[a, b]).err().unwrap_or_default();
    let conflict = [RouteProblem::Conflict { a: 0, b: 1 }];
    assert_eq!(both(route("b", prefix("/a")), route("a", prefix("/a/"))), conflict);
    assert_eq!(both(route("a", template("/{x}")), route("b", template("/{y}"))), conflict);
    let left = RouteMatch {
        methods: vec![Method::GET, Method::PUT],
        headers: vec![field("X-A", "1"), field("x-b", "2")],
        hosts: vec![host("a"), host("*.b")],
        ..route("a", prefix("/"))
    };
    let right = RouteMatch {
        methods: vec![Method::PUT, Method::GET],
        headers: vec![field("x-b", "2"), field("x-a", "1")],
        hosts: vec![host("*.b"), host("a")],
        ..route("b", prefix("/"))
    };
    assert_eq!(both(left.clone(), right.clone()), conflict);
    assert_eq!(both(left, RouteMatch { headers: vec![], ..right }), [], "one header less is another match");
}

#[test]
fn routes_that_never_win_are_unreachable() {
    let by_first = |a: RouteMatch, b: RouteMatch| {
        let problems = Router::build(&[a, b]).err().unwrap_or_default();
        problems == [RouteProblem::Unreachable { route: 1, by: 0 }]
    };
    let methods =
        |name: &str, methods: &[Method]| RouteMatch { methods: methods.to_vec(), ..route(name, prefix("/")) };
    assert!(by_first(methods("a", &[Method::GET, Method::PUT]), methods("b", &[Method::GET])));
    assert!(
        !by_first(methods("b", &[Method::GET, Method::PUT]), methods("a", &[Method::GET])),
        "the name lets it win"
    );
    assert!(!by_first(methods("a", &[Method::GET]), methods("b", &[Method::HEAD])), "`HEAD` is its own");
    assert!(!by_first(methods("a", &[]), methods("b", &[Method::GET])), "a method is more specific");
    assert!(
        !by_first(route("z", prefix("/")), route("a", regex("/x.*"))),
        "an expression goes before a prefix"
    );
    let two_hosts = RouteMatch { hosts: vec![host("a"), host("b")], ..route("a", prefix("/")) };
    let one_host = RouteMatch { hosts: vec![host("b")], ..route("b", prefix("/")) };
    assert!(by_first(two_hosts.clone(), one_host.clone()));
    assert!(!by_first(one_host, RouteMatch { name: "c".into(), ..two_hosts }), "host `a` is left to it");
}

/// The reference: what it takes for a route to match, and how well it does. The least is the best.
fn rating<'r>(route: &'r RouteMatch, query: &Query<'_>) -> Option<impl Ord + use<'r>> {
    let hosts = route.hosts.iter().filter_map(|pattern| match pattern {
        HostPattern::Exact(host) => (host == query.host).then_some((0, Reverse(0))),
        HostPattern::Suffix(suffix) => query.host.ends_with(suffix).then_some((1, Reverse(suffix.len()))),
    });
    let host = if route.hosts.is_empty() { (2, Reverse(0)) } else { hosts.min()? };
    let (parts, whole) = (|text: &str| text.split('/').map(String::from).collect::<Vec<_>>(), query.path);
    let path = match &route.path {
        PathPattern::Exact(text) => (text == whole).then_some((0, Reverse(0)))?,
        PathPattern::Template(text) => {
            let (pattern, path) = (parts(text), parts(whole));
            let same = |(a, b): (&String, &String)| a == b || (a.starts_with('{') && !b.is_empty());
            let matches = pattern.len() == path.len() && pattern.iter().zip(&path).all(same);
            let literal =
                pattern.iter().filter(|part| !part.starts_with('{')).map(String::len).sum::<usize>();
            matches.then_some((1, Reverse(literal)))?
        }
        PathPattern::Prefix(text) => {
            let (pattern, path) = (parts(text.trim_end_matches('/')), parts(whole));
            path.starts_with(&pattern).then(|| (3, Reverse(text.trim_end_matches('/').len())))?
        }
        PathPattern::Regex(text) => {
            let found =
                Regex::new(text).expect("right").find_iter(whole).any(|found| found.as_str() == whole);
            found.then_some((2, Reverse(0)))?
        }
    };
    let named = route.methods.is_empty() || route.methods.contains(query.method);
    let as_get = !named && query.method == Method::HEAD && route.methods.contains(&Method::GET);
    let pairs: Vec<_> =
        query.query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).collect();
    let holds = |field: &FieldMatch, value: Option<&str>| match &field.value {
        FieldValue::Exact(text) => value == Some(text),
        _ => value.is_some(),
    };
    let in_query = |field: &FieldMatch| pairs.iter().find(|pair| pair.0 == field.name).map(|pair| pair.1);
    let fits = (named || as_get)
        && route.headers.iter().all(|field| holds(field, (query.header)(&field.name)))
        && route.query.iter().all(|field| holds(field, in_query(field)));
    let counts = (Reverse(route.headers.len()), Reverse(route.query.len()));
    fits.then_some((host, path, route.methods.is_empty(), counts, as_get, route.name.as_str()))
}

fn any_route() -> impl Strategy<Value = RouteMatch> {
    let hosts = prop::sample::subsequence(vec!["a.x", "b.a.x", "*.x", "*.a.x"], 0..3);
    let methods = prop::sample::subsequence(vec![Method::GET, Method::HEAD, Method::POST], 0..3);
    let path = prop::sample::select(vec![
        exact("/"),
        exact("/a"),
        exact("/a/b"),
        prefix("/"),
        prefix("/a"),
        prefix("/a/"),
        prefix("/a/b"),
        template("/{x}"),
        template("/a/{x}"),
        template("/{x}/b"),
        template("/{x}/{y}"),
        regex("/a.*"),
        regex("/a/[ab]"),
    ]);
    let fields = || {
        let value = prop_oneof![Just(FieldValue::Present), "[12]".prop_map(FieldValue::Exact)];
        let field = ("[xy]", value).prop_map(|(name, value)| FieldMatch { name, value });
        prop::collection::vec(field, 0..3)
    };
    (hosts, methods, path, fields(), fields()).prop_map(|(hosts, methods, path, headers, query)| RouteMatch {
        name: String::new(),
        hosts: hosts.into_iter().map(host).collect(),
        methods,
        path,
        headers,
        query,
    })
}

fn any_routes() -> impl Strategy<Value = Vec<RouteMatch>> {
    prop::collection::vec(any_route(), 0..12).prop_map(|mut routes| {
        for (n, route) in routes.iter_mut().enumerate() {
            route.name = format!("{n:02}");
        }
        routes
    })
}

/// Host, path, method, query, and the header `x`.
type Asked = (&'static str, &'static str, Method, &'static str, Option<&'static str>);

fn any_request() -> impl Strategy<Value = Asked> {
    (
        prop::sample::select(vec!["a.x", "b.a.x", "c.b.a.x", "x", "y"]),
        prop::sample::select(vec!["/", "/a", "/a/", "/a/b", "/a/c", "/b", "/b/b", "/a/b/c", "/ab"]),
        prop::sample::select(vec![Method::GET, Method::HEAD, Method::POST, Method::PUT]),
        prop::sample::select(vec!["", "x=1", "y=2&x=2", "x=1&y=1&x=2"]),
        prop::sample::select(vec![None, Some("1"), Some("2")]),
    )
}

fn winner(routes: &[RouteMatch], query: &Query<'_>) -> Option<String> {
    let rated = routes.iter().filter_map(|route| Some((rating(route, query)?, route)));
    rated.min_by(|a, b| a.0.cmp(&b.0)).map(|(_, route)| route.name.clone())
}

fn found_name(routes: &[RouteMatch], router: &Router, query: &Query<'_>) -> Option<String> {
    match router.find(query) {
        Found::Route { index, .. } => routes.get(index).map(|route| route.name.clone()),
        _ => None,
    }
}

proptest! {
    #[test]
    fn finds_what_a_scan_finds_in_any_order(
        (routes, shuffled) in any_routes().prop_flat_map(|routes| (Just(routes.clone()), Just(routes).prop_shuffle())),
        requests in prop::collection::vec(any_request(), 1..40),
    ) {
        let router = Router::assemble(&routes).expect("right");
        let other = Router::assemble(&shuffled).expect("right");
        let problems = Router::build(&routes).err().unwrap_or_default();
        for (host, path, method, text, x) in &requests {
            let header = |name: &str| if name == "x" { *x } else { None };
            let query = Query { method, host, path, query: Some(text), header: &header };
            let expected = winner(&routes, &query);
            prop_assert_eq!(&found_name(&routes, &router, &query), &expected, "{:?}", (host, path, method, text, x));
            prop_assert_eq!(&found_name(&shuffled, &other, &query), &expected, "shuffled");
            for problem in &problems {
                if let RouteProblem::Unreachable { route, .. } = problem {
                    prop_assert_ne!(routes.get(*route).map(|route| &route.name), expected.as_ref(), "{:?}", problem);
                }
            }
        }
    }
}
