//! The JSON Schema of the configuration, put together from the types that decode it and from the catalogue of policies.
//!
//! One truth in three uses: the fields of a type are what `serde` decodes, what [`Section::check_keys`] knows, and what stands in the
//! schema; their doc comments are what an editor shows. Keys that are planned and not supported are not in it, so that no editor
//! offers them. Only `portcullis schema` and tests build it: nothing here runs while a request or a reload waits.
//!
//! [`Section::check_keys`]: crate::config::Section::check_keys

mod finish;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{CacheSpec, LogFileSpec, LogWord, SecretSpec, ShutdownSpec, listeners, matching, upstreams};
use crate::config::keys_of;
use crate::names::{RouteName, SecretName, TeamName, UpstreamName};
use crate::policy::{self, KINDS, Kind, Place};

/// Everything that one gateway does: where clients come in, which upstreams it hides, and which routes lead to them. Change it while it
/// runs: either all of it holds or nothing changed. `portcullis check FILE` says everything that is wrong.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("anyOf" = [
    { "required": ["routes"], "properties": { "routes": { "minItems": 1 } } }, { "required": ["include"] }
]))]
#[expect(dead_code, reason = "the blocks are read one by one; this is the list of them")]
pub(super) struct FileSpec {
    /// The version of this format.
    #[schemars(extend("enum" = [1]))]
    version: u8,
    /// Where clients come in; at least one.
    #[schemars(length(min = 1))]
    listeners: Vec<listeners::ListenerSpec>,
    admin: Option<listeners::AdminSpec>,
    cache: Option<CacheSpec>,
    #[schemars(with = "Option<AccessLogSpec>")]
    access_log: Option<serde_yaml::Value>,
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
    /// What clients may ask for, and what happens then. The most specific match wins, wherever it stands in this list. Only where files
    /// are included may a file do without.
    #[schemars(with = "Option<Vec<WithKinds<RouteSpec>>>", length(max = super::route::MAX_ROUTES))]
    routes: Option<Vec<RouteSpec>>,
}

/// The routes of one team, in a file of their own that the main file names under `include`. What is shared, from listeners to secrets,
/// belongs to those who run the gateway and stands in the main file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read key by key; this is the list of them")]
pub(super) struct TeamFileSpec {
    /// The team whose routes these are. Everywhere else they are called `team/route`.
    #[schemars(with = "TeamName", example = &"checkout")]
    team: String,
    /// What clients may ask for, and what happens then. The most specific match of all files wins.
    #[schemars(with = "Vec<WithKinds<RouteSpec>>", length(max = super::route::MAX_ROUTES))]
    routes: Vec<RouteSpec>,
}

/// One line for every request: to a stream, to a file, or nowhere. JSON, without query strings, bodies and secrets.
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(extend("default" = "stdout"))]
#[expect(dead_code, reason = "read by hand, so that each of the two has its own message")]
enum AccessLogSpec {
    Word(LogWord),
    File(LogFileSpec),
}

/// Which requests are taken, one of `upstream`, `redirect` and `respond` that answers them, and what is done on the way. The order in which
/// it is done is fixed, whatever order the keys are in.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["upstream"] }, { "required": ["redirect"] }, { "required": ["respond"] }]))]
#[expect(dead_code, reason = "read key by key, so that one mistake does not hide another")]
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
