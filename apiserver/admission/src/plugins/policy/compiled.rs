//! Policies with their bindings, compiled once per change, and the parameters that bindings name.

use crate::matching::Matcher;
use crate::{Attributes, Versions};
use arc_swap::ArcSwapOption;
use rutter_api::object::ObjectExt;
use rutter_api::{
    GroupResource, GroupVersion, GroupVersionKind, LabelSelector, ObjectReader, Resource, Value,
};
use serde_json::json;
use std::borrow::Cow;
use std::sync::Arc;

/// A policy.
pub(super) struct Policy<P> {
    pub(super) name: String,
    /// The object that it was compiled from, and how often its spec had changed.
    version: (String, i64),
    pub(super) matcher: Matcher,
    pub(super) program: Arc<P>,
    /// Whether a failure lets the write pass.
    pub(super) ignore: bool,
    /// Whether it is asked again when others changed the object.
    pub(super) reinvoke: bool,
    /// The kind of its parameters.
    params: Option<GroupVersionKind>,
    pub(super) bindings: Vec<Binding>,
}

/// Where a policy holds, and with what parameters.
pub(super) struct Binding {
    pub(super) name: String,
    /// None for wherever the policy holds.
    pub(super) matcher: Option<Matcher>,
    reference: Value,
    /// `validationActions`
    pub(super) actions: Vec<String>,
}

impl Binding {
    fn of(object: &Value) -> Self {
        let spec = object.at("spec");
        let actions = spec.list_at("validationActions").iter().filter_map(Value::as_str);
        Self {
            name: object.name().to_owned(),
            matcher: match spec.at("matchResources") {
                Value::Null => None,
                resources => Some(Matcher::of(&with_rules(resources))),
            },
            reference: spec.at("paramRef").clone(),
            actions: actions.map(str::to_owned).collect(),
        }
    }

    pub(super) fn has(&self, action: &str) -> bool {
        self.actions.iter().any(|known| known == action)
    }
}

/// A binding without rules is for everything that its selectors and exceptions leave.
fn with_rules(resources: &Value) -> Cow<'_, Value> {
    if !resources.list_at("resourceRules").is_empty() {
        return Cow::Borrowed(resources);
    }
    let mut all = resources.clone();
    let everything =
        json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]);
    all.set("resourceRules", everything);
    Cow::Owned(all)
}

/// All policies of one kind.
pub(super) struct Policies<P> {
    policies: GroupResource,
    bindings: GroupResource,
    compile: fn(&Value) -> P,
    current: ArcSwapOption<(u64, u64, Vec<Policy<P>>)>,
}

impl<P> Policies<P> {
    pub(super) fn new(policies: &str, bindings: &str, compile: fn(&Value) -> P) -> Self {
        let group = "admissionregistration.k8s.io";
        Self {
            policies: GroupResource::new(group, policies),
            bindings: GroupResource::new(group, bindings),
            compile,
            current: ArcSwapOption::empty(),
        }
    }

    /// The policies that have bindings, by name. Costs the comparison of two numbers unless something changed.
    pub(super) fn current(&self, reader: &dyn ObjectReader) -> Arc<(u64, u64, Vec<Policy<P>>)> {
        let of_policies = reader.generation(&self.policies);
        let of_bindings = reader.generation(&self.bindings);
        let known = self.current.load_full();
        if let Some(known) = &known
            && (known.0, known.1) == (of_policies, of_bindings)
        {
            return known.clone();
        }
        let before = known.as_ref().map_or(&[][..], |known| &known.2);
        let compiled = Arc::new((of_policies, of_bindings, self.all(reader, before)));
        self.current.store(Some(compiled.clone()));
        compiled
    }

    /// What `before` has compiled from the same specs is taken over.
    fn all(&self, reader: &dyn ObjectReader, before: &[Policy<P>]) -> Vec<Policy<P>> {
        let mut objects = reader.list(&self.policies, None);
        objects.sort_by(|a, b| a.name().cmp(b.name()));
        let mut bindings = reader.list(&self.bindings, None);
        bindings.sort_by(|a, b| a.name().cmp(b.name()));
        let policy = |object: &Arc<Value>| {
            let own = bindings
                .iter()
                .filter(|binding| binding.str_at("spec.policyName") == object.name());
            let own: Vec<Binding> = own.map(|binding| Binding::of(binding)).collect();
            // A policy that nothing binds is not looked at.
            (!own.is_empty()).then(|| self.policy(object, own, before))
        };
        objects.iter().filter_map(policy).collect()
    }

    fn policy(&self, object: &Value, bindings: Vec<Binding>, before: &[Policy<P>]) -> Policy<P> {
        let generation = object.at("metadata.generation").as_i64().unwrap_or_default();
        let version = (object.uid().to_owned(), generation);
        let known = before
            .iter()
            .find(|known| known.version == version && !version.0.is_empty());
        let program = known.map(|known| known.program.clone());
        let spec = object.at("spec");
        let params = match spec.at("paramKind") {
            Value::Null => None,
            kind => GroupVersion::parse(kind.str_at("apiVersion"))
                .map(|version| GroupVersionKind::new(&version.group, &version.version, kind.str_at("kind"))),
        };
        Policy {
            name: object.name().to_owned(),
            matcher: Matcher::of(spec.at("matchConstraints")),
            program: program.unwrap_or_else(|| Arc::new((self.compile)(spec))),
            version,
            ignore: spec.str_at("failurePolicy") == "Ignore",
            reinvoke: spec.str_at("reinvocationPolicy") == "IfNeeded",
            params,
            bindings,
        }
    }
}

impl<P> Policy<P> {
    /// The parameters with which the policy is to be evaluated, once for each; null where it has none.
    ///
    /// # Errors
    /// When the binding doesn't fit, or names parameters that aren't there and must be.
    pub(super) async fn parameters(
        &self,
        binding: &Binding,
        write: &Attributes<'_>,
        reader: &dyn ObjectReader,
    ) -> Result<Vec<Arc<Value>>, String> {
        let reference = &binding.reference;
        let Some(kind) = self.params.as_ref().filter(|_| !reference.is_null()) else {
            return Ok(vec![Arc::new(Value::Null)]);
        };
        let resource = write.versions.scheme().by_kind(kind).cloned();
        let resource =
            resource.ok_or_else(|| format!("failed to find resource referenced by paramKind: '{kind}'"))?;
        let asked = reference.str_at("namespace");
        let namespace = match (resource.namespaced, asked.is_empty()) {
            (true, true) if write.namespace.is_empty() => {
                return Err(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                        .to_owned(),
                );
            }
            (true, true) => write.namespace,
            (true, false) => asked,
            (false, false) => {
                return Err(
                    "paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned(),
                );
            }
            (false, true) => "",
        };
        let found = find(reference, &resource, namespace, reader)?;
        if found.is_empty() && reference.str_at("parameterNotFoundAction") != "Allow" {
            return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
        }
        let mut served = Vec::with_capacity(found.len());
        for object in found {
            served.push(in_version(object, &resource, write.versions).await?);
        }
        Ok(served)
    }
}

fn find(
    reference: &Value,
    resource: &Resource,
    namespace: &str,
    reader: &dyn ObjectReader,
) -> Result<Vec<Arc<Value>>, String> {
    let group_resource = resource.group_resource();
    let name = reference.str_at("name");
    if !name.is_empty() {
        return Ok(reader.get(&group_resource, namespace, name).into_iter().collect());
    }
    let selector = match reference.at("selector") {
        Value::Null => return Err("paramRef must have either `name` or `selector`".to_owned()),
        selector => LabelSelector::from_object(selector).map_err(|error| error.to_string())?,
    };
    let within = resource.namespaced.then_some(namespace);
    let mut found = reader.list(&group_resource, within);
    found.retain(|object| selector.matches_object(object));
    Ok(found)
}

/// A stored object in the version that the policy names.
async fn in_version(
    object: Arc<Value>,
    resource: &Resource,
    versions: &dyn Versions,
) -> Result<Arc<Value>, String> {
    let stored = GroupVersion::parse(object.str_at("apiVersion"));
    let Some(stored) = stored.filter(|stored| *stored != resource.group_version) else {
        return Ok(object);
    };
    let Some(from) = versions.scheme().get(&stored, &resource.plural) else {
        return Ok(object);
    };
    let converted = versions.convert(from, resource, (*object).clone()).await;
    converted.map(Arc::new).map_err(|error| error.message)
}
