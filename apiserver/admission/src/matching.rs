//! Which writes a webhook or a policy is for: rules, selectors, and the same resource in other versions.

use crate::Attributes;
use crate::plugins::namespace_lifecycle::find;
use crate::{LiveReader, Operation};
use rutter_api::object::ObjectExt;
use rutter_api::selector::SelectorError;
use rutter_api::{LabelSelector, ObjectReader, Resource, StatusError, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// Which objects a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    Cluster,
    Namespaced,
}

/// One rule: operations on resources.
#[derive(Clone, Debug)]
pub struct Rule {
    /// None for all.
    operations: Option<Vec<Operation>>,
    groups: Names,
    versions: Names,
    /// Resource and subresource.
    resources: Vec<(Names, Names)>,
    scope: Scope,
    /// Empty for all.
    names: Vec<String>,
}

/// Names, or all of them.
#[derive(Clone, Debug)]
enum Names {
    All,
    These(Vec<String>),
}

impl Names {
    fn of(list: &[Value]) -> Self {
        let names = list.iter().filter_map(Value::as_str);
        if names.clone().any(|name| name == "*") {
            Self::All
        } else {
            Self::These(names.map(str::to_owned).collect())
        }
    }

    fn one(name: &str) -> Self {
        match name {
            "*" => Self::All,
            _ => Self::These(vec![name.to_owned()]),
        }
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => names.iter().any(|known| known == name),
        }
    }
}

impl Rule {
    /// Reads a `RuleWithOperations` (or a `NamedRuleWithOperations`), checked when it was stored.
    pub fn of(rule: &Value) -> Self {
        let operations = rule.list_at("operations").iter().filter_map(Value::as_str);
        let all = [
            Operation::Create,
            Operation::Update,
            Operation::Delete,
            Operation::Connect,
        ];
        let resource = |text: &str| {
            let (resource, sub) = text.split_once('/').unwrap_or((text, ""));
            (Names::one(resource), Names::one(sub))
        };
        let texts = |field: &str| -> Vec<String> {
            let list = rule.list_at(field).iter().filter_map(Value::as_str);
            list.map(str::to_owned).collect()
        };
        Self {
            operations: (!operations.clone().any(|name| name == "*")).then(|| {
                let known = |name: &str| all.into_iter().find(|operation| operation.as_str() == name);
                operations.filter_map(known).collect()
            }),
            groups: Names::of(rule.list_at("apiGroups")),
            versions: Names::of(rule.list_at("apiVersions")),
            resources: texts("resources").iter().map(|text| resource(text)).collect(),
            scope: match rule.str_at("scope") {
                "Cluster" => Scope::Cluster,
                "Namespaced" => Scope::Namespaced,
                _ => Scope::All,
            },
            names: texts("resourceNames"),
        }
    }

    /// Whether the rule is for such a write to `resource`, which may be another version than the write's own.
    fn matches(&self, write: &Attributes<'_>, resource: &Resource) -> bool {
        let namespaced = resource.namespaced && !write.namespace.is_empty();
        let scope = match self.scope {
            Scope::All => true,
            Scope::Cluster => !namespaced,
            Scope::Namespaced => namespaced,
        };
        scope
            && self
                .operations
                .as_ref()
                .is_none_or(|operations| operations.contains(&write.operation))
            && self.groups.has(&resource.group_version.group)
            && self.versions.has(&resource.group_version.version)
            && self
                .resources
                .iter()
                .any(|(plural, sub)| plural.has(&resource.plural) && sub.has(write.subresource))
            && (self.names.is_empty() || self.names.iter().any(|name| name == write.name))
    }
}

/// Which writes something is for.
#[derive(Debug)]
pub struct Matcher {
    rules: Vec<Rule>,
    exclude: Vec<Rule>,
    equivalent: bool,
    namespaces: Result<LabelSelector, SelectorError>,
    objects: Result<LabelSelector, SelectorError>,
}

impl Matcher {
    /// Reads the parts that webhooks and `MatchResources` share; the rules are a webhook's `rules`, or a policy's
    /// `resourceRules` and `excludeResourceRules`.
    pub fn of(value: &Value) -> Self {
        let rules = |field: &str| value.list_at(field).iter().map(Rule::of);
        let selector = |field: &str| match value.at(field) {
            Value::Null => Ok(LabelSelector::everything()),
            selector => LabelSelector::from_object(selector),
        };
        Self {
            rules: rules("rules").chain(rules("resourceRules")).collect(),
            exclude: rules("excludeResourceRules").collect(),
            equivalent: value.str_at("matchPolicy") != "Exact",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// The resource as which a write is looked at: its own, or with `matchPolicy: Equivalent` the same one in another
    /// version. None when the write is none of its business. Errors of selectors count only when a rule matches.
    pub async fn matches(
        &self,
        write: &Attributes<'_>,
        reader: &dyn ObjectReader,
        live: &dyn LiveReader,
    ) -> Result<Option<Arc<Resource>>, StatusError> {
        // Rules are cheaper than selectors, and most writes match none.
        let Some(resource) = self.resource(write) else {
            return Ok(None);
        };
        let objects = self.objects.as_ref().map_err(StatusError::internal)?;
        if !objects.is_everything() {
            let has = |object: &Value| object.is_object() && objects.matches_object(object);
            if !has(&write.object) && !has(write.old) {
                return Ok(None);
            }
        }
        let namespaces = self.namespaces.as_ref().map_err(StatusError::internal)?;
        if !namespaces.is_everything() && !in_namespaces(namespaces, write, reader, live).await? {
            return Ok(None);
        }
        Ok(Some(resource))
    }

    /// The resource that a rule matches.
    fn resource(&self, write: &Attributes<'_>) -> Option<Arc<Resource>> {
        let own = || {
            let scheme = write.versions.scheme();
            let found = scheme.get(&write.resource.group_version, &write.resource.plural);
            found.cloned().unwrap_or_else(|| Arc::new(write.resource.clone()))
        };
        if self
            .exclude
            .iter()
            .any(|rule| rule.matches(write, write.resource))
        {
            return None;
        }
        if self.rules.iter().any(|rule| rule.matches(write, write.resource)) {
            return Some(own());
        }
        if !self.equivalent {
            return None;
        }
        let others = equivalents(write);
        if self
            .exclude
            .iter()
            .any(|rule| others.iter().any(|other| rule.matches(write, other)))
        {
            return None;
        }
        // Earlier rules come first, then earlier versions.
        let mut found = self
            .rules
            .iter()
            .filter_map(|rule| others.iter().find(|other| rule.matches(write, other)));
        found.next().cloned()
    }
}

/// The same resource in other versions, and under other groups that store the same objects.
fn equivalents(write: &Attributes<'_>) -> Vec<Arc<Resource>> {
    let Some(prefix) = &write.resource.storage_prefix else {
        return Vec::new();
    };
    let same = |other: &&Arc<Resource>| {
        other.storage_prefix.as_ref() == Some(prefix)
            && other.group_version != write.resource.group_version
            && (write.subresource.is_empty() || other.subresource(write.subresource).is_some())
    };
    write.versions.scheme().iter().filter(same).cloned().collect()
}

/// Whether the write's namespace is selected. Objects outside of namespaces always are, but namespaces by their own labels.
async fn in_namespaces(
    selector: &LabelSelector,
    write: &Attributes<'_>,
    reader: &dyn ObjectReader,
    live: &dyn LiveReader,
) -> Result<bool, StatusError> {
    let is_namespace = write.is("", "namespaces");
    if is_namespace
        && write.subresource.is_empty()
        && matches!(write.operation, Operation::Create | Operation::Update)
    {
        return Ok(selector.matches_object(&write.object));
    }
    let name = write.request_namespace();
    if name.is_empty() {
        return Ok(true);
    }
    let namespace = find(reader, live, &name).await?;
    Ok(selector.matches_object(&namespace))
}

impl Attributes<'_> {
    /// The namespace as webhooks are told it: a namespace lies in itself.
    pub fn request_namespace(&self) -> Cow<'_, str> {
        if self.is("", "namespaces") {
            Cow::Borrowed(if self.name.is_empty() {
                self.object.name()
            } else {
                self.name
            })
        } else {
            Cow::Borrowed(self.namespace)
        }
    }

    /// Whether the write is to a configuration of admission itself, which neither webhooks nor policies are asked about: a
    /// broken one must not keep anybody from mending it.
    pub fn is_exempt(&self) -> bool {
        self.resource.group_version.group == "admissionregistration.k8s.io"
            && matches!(
                &*self.resource.plural,
                "validatingwebhookconfigurations"
                    | "mutatingwebhookconfigurations"
                    | "validatingadmissionpolicies"
                    | "validatingadmissionpolicybindings"
                    | "mutatingadmissionpolicies"
                    | "mutatingadmissionpolicybindings"
            )
    }
}
