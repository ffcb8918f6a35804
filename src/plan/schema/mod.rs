//! The JSON Schema of the configuration, put together from the types that decode it and from the catalogue of policies.
//!
//! One truth in three uses: the fields of a type are what `serde` decodes, what [`Section::check_keys`] knows, and what stands in the
//! schema; their doc comments are what an editor shows. Keys that are planned and not supported are not in it, so that no editor
//! offers them. Only `portcullis schema` and tests build it: nothing here runs while a request or a reload waits.
//!
//! Here `expect` stands above a doc comment: below it, an incremental build of rustc 1.95 fails when a line is added to the comment.
//!
//! [`Section::check_keys`]: crate::config::Section::check_keys

mod finish;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    counters,
    gateway::{CacheSpec, LogFileSpec, LogWord, ShutdownSpec, UpgradeSpec},
    listeners, matching, owners,
    secrets::SecretSpec,
    upstreams,
};
use crate::config::keys_of;
use crate::names::{RouteName, SecretName, TeamName, UpstreamName};
use crate::policy::{self, KINDS, Kind, Place};

#[expect(dead_code, reason = "the blocks are read one by one; this is the list of them")]
/// Everything that one gateway does: where clients come in, which upstreams it hides, and which routes lead to them. Change it while it
/// runs: either all of it holds or nothing changed. `portcullis check FILE` says everything that is wrong.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("anyOf" = [
    { "required": ["routes"], "properties": { "routes": { "minItems": 1 } } }, { "required": ["include"] }
]))]
pub(super) struct FileSpec {
    /// The version of this format.
    #[schemars(extend("enum" = [1]))]
    version: u8,
    /// Where clients come in; at least one.
    #[schemars(length(min = 1))]
    listeners: Vec<listeners::ListenerSpec>,
    admin: Option<listeners::AdminSpec>,
    cache: Option<CacheSpec>,
    rate_limits: Option<counters::Spec>,
    #[schemars(with = "Option<AccessLogSpec>")]
    access_log: Option<serde_yaml::Value>,
    upgrade: Option<UpgradeSpec>,
    shutdown: Option<ShutdownSpec>,
    /// Names for secrets, each with where its value is. The rest of the file refers to the name.
    #[schemars(with = "Option<BTreeMap<SecretName, SecretSpec>>")]
    secrets: Option<BTreeMap<String, SecretSpec>>,
    /// Names for the hidden APIs and your own web apps. The name is the `upstream` label of metrics and logs; clients never see it.
    #[schemars(with = "Option<BTreeMap<UpstreamName, WithKinds<upstreams::Spec>>>")]
    upstreams: Option<BTreeMap<String, upstreams::Spec>>,
    /// The files of the teams, each with `team` and `routes`: names or patterns, relative to this file. `*` and `?` stand for characters
    /// within one name; the files are sorted by name. Default: none.
    #[schemars(example = ["routes.d/*.yaml"])]
    include: Option<Vec<String>>,
    /// What each team's file may claim; the rest is refused. Written at all, it names every team that may have routes. Without it every
    /// team may do everything.
    #[schemars(with = "Option<BTreeMap<TeamName, owners::GrantSpec>>")]
    owners: Option<BTreeMap<String, owners::GrantSpec>>,
    /// What clients may ask for, and what happens then. The most specific match wins, wherever it stands in this list. Only where files
    /// are included may a file do without.
    #[schemars(with = "Option<Vec<WithKinds<RouteSpec>>>", length(max = super::route::MAX_ROUTES))]
    routes: Option<Vec<RouteSpec>>,
    /// What this configuration is to do, tried by `portcullis test` without a network. A running gateway does not look at it. Cases may
    /// also stand in files of their own, `NAME.test.yaml`.
    tests: Option<Vec<super::cases::CaseSpec>>,
}

#[expect(dead_code, reason = "read key by key; this is the list of them")]
/// The routes of one team, in a file of their own that the main file names under `include`. What is shared, from listeners to secrets,
/// belongs to those who run the gateway and stands in the main file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TeamFileSpec {
    /// The team whose routes these are. Everywhere else they are called `team/route`.
    #[schemars(with = "TeamName", example = &"checkout")]
    team: String,
    /// What clients may ask for, and what happens then. The most specific match of all files wins.
    #[schemars(with = "Vec<WithKinds<RouteSpec>>", length(max = super::route::MAX_ROUTES))]
    routes: Vec<RouteSpec>,
}

#[expect(dead_code, reason = "read by hand, so that each of the two has its own message")]
/// One line for every request: to a stream, to a file, or nowhere. JSON, without query strings, bodies and secrets.
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(extend("default" = "stdout"))]
enum AccessLogSpec {
    Word(LogWord),
    File(LogFileSpec),
}

#[expect(dead_code, reason = "read key by key, so that one mistake does not hide another")]
/// Which requests are taken, one of `upstream`, `redirect` and `respond` that answers them, and what is done on the way. The order in which
/// it is done is fixed, whatever order the keys are in.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["upstream"] }, { "required": ["redirect"] }, { "required": ["respond"] }]))]
pub(super) struct RouteSpec {
    /// The route's name: the `route` label of its metrics, the `route` of the problem documents that clients get, and part of the names
    /// of its limits.
    #[schemars(with = "RouteName")]
    name: String,
    #[serde(rename = "match")]
    matched: Option<matching::Spec>,
    /// Name of the upstream that answers. A route has this, `redirect` or `respond`.
    #[schemars(with = "Option<UpstreamName>", example = &"vendor")]
    upstream: Option<String>,
}

/// A type of which policies own further keys.
struct WithKinds<T>(std::marker::PhantomData<T>);

/// Where the policies of a type stand.
trait Holder: JsonSchema {
    const PLACE: Place;
}

impl Holder for RouteSpec {
    const PLACE: Place = Place::Route;
}

impl Holder for upstreams::Spec {
    const PLACE: Place = Place::Upstream;
}

impl<T: Holder> JsonSchema for WithKinds<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = generator.subschema_for::<T>();
        add_kinds(&mut schema, KINDS, T::PLACE, generator);
        schema
    }
}

/// The keys of a route: its own, and the first part of every policy's.
pub(super) static ROUTE_KEYS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| policy::with_kinds(keys_of::<RouteSpec>(), ""));

/// The keys of `response`, which is policies only.
pub(super) static RESPONSE_KEYS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| policy::with_kinds(&[], "response"));

/// The schema of a whole configuration file, draft-07.
#[must_use]
pub fn file() -> Value {
    generate::<FileSpec>()
}

/// The schema of a team's file, draft-07.
#[must_use]
pub fn team_file() -> Value {
    generate::<TeamFileSpec>()
}

/// The schema of a file with cases, draft-07.
#[must_use]
pub fn cases_file() -> Value {
    generate::<super::cases::CasesFileSpec>()
}

fn generate<T: JsonSchema>() -> Value {
    let settings =
        SchemaSettings::draft07().for_deserialize().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    // Editors put it above the text of every key.
    schema.remove("title");
    let mut value = schema.to_value();
    finish::finish(&mut value);
    value
}

/// Adds the properties of the kinds that stand at `place`; `a.b` becomes the property `b` of `a`.
fn add_kinds(schema: &mut Schema, kinds: &[Kind], place: Place, generator: &mut SchemaGenerator) {
    for kind in kinds.iter().filter(|kind| kind.place == place) {
        let Some(make) = kind.schema else { continue };
        let made = make(generator).to_value();
        let mut object = schema.ensure_object();
        let mut steps = kind.key.split('.').peekable();
        while let Some(step) = steps.next() {
            let Some(properties) = properties_of(object) else { break };
            if steps.peek().is_none() {
                merge(properties.entry(step).or_insert(Value::Null), made.clone());
                break;
            }
            let group = properties.entry(step).or_insert_with(|| group(step));
            let Value::Object(inner) = group else { break };
            object = inner;
        }
    }
}

fn properties_of(object: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    object.entry("properties").or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}

/// A mapping that no kind owns: only its parts are policies.
fn group(step: &str) -> Value {
    let description = policy::GROUPS.iter().find(|(key, _)| *key == step).map_or("", |(_, says)| says);
    json_schema!({ "description": description, "type": "object", "additionalProperties": false, "properties": {} })
        .to_value()
}

/// Puts a kind's own schema where parts of it may stand already.
fn merge(place: &mut Value, made: Value) {
    let parts = place.get_mut("properties").and_then(Value::as_object_mut).map(std::mem::take);
    *place = made;
    let Some(parts) = parts else { return };
    if let Some(properties) = place.as_object_mut().and_then(properties_of) {
        properties.extend(parts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(dead_code, reason = "only its schema is looked at")]
    /// What a policy from outside may be asked for.
    #[derive(JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Stamp {
        /// The text.
        ink: String,
    }

    fn kind(key: &'static str, place: Place) -> Kind {
        Kind { key, place, schema: Some(policy::schema_of::<Stamp>), compile: |_, _| None }
    }

    #[test]
    fn a_kind_from_outside_brings_its_schema_to_its_place() {
        let mut generator = SchemaSettings::draft07().with(|s| s.inline_subschemas = true).into_generator();
        let mut schema = generator.subschema_for::<RouteSpec>();
        let kinds = [
            kind("response.stamp", Place::Route),
            kind("response", Place::Route),
            kind("stamp", Place::Route),
            kind("elsewhere", Place::Upstream),
        ];
        add_kinds(&mut schema, &kinds, Place::Route, &mut generator);
        let properties = &schema.to_value()["properties"];
        assert_eq!(properties["stamp"]["required"], serde_json::json!(["ink"]));
        assert_eq!(properties["response"]["properties"]["stamp"]["properties"]["ink"]["type"], "string");
        assert!(
            properties["response"]["properties"]["ink"].is_object(),
            "its own keys beside those of its parts"
        );
        assert!(properties["elsewhere"].is_null() && properties["name"].is_object());
    }

    #[test]
    fn the_keys_of_a_route_are_its_own_and_its_policies() {
        for key in ["name", "match", "upstream", "request", "response", "rateLimit", "redirect"] {
            assert!(ROUTE_KEYS.contains(&key), "{key}");
        }
        assert_eq!(ROUTE_KEYS.iter().filter(|key| **key == "response").count(), 1, "each once");
        assert_eq!(*RESPONSE_KEYS, ["errors", "json", "headers"]);
    }
}
