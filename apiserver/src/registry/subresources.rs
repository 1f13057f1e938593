//! Subresources that are another kind than their resource: scale, binding, eviction, token.

use super::Call;
use super::update::Change;
use crate::answer::Answer;
use crate::crd::Custom;
use crate::request::body::{self, Expected};
use crate::request::params::{DeleteOptions, WriteOptions};
use bytes::Bytes;
use http::StatusCode;
use rutter_admission::Operation;
use rutter_api::object::ObjectExt;
use rutter_api::status::Cause;
use rutter_api::{
    FieldError, GroupKind, GroupVersion, GroupVersionKind, LabelSelector, ObjectReader, Path, Reason,
    StatusError, Value,
};
use serde_json::json;

const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";
const BINDING: &str = "io.k8s.api.core.v1.Binding";
const EVICTION: &str = "io.k8s.api.policy.v1.Eviction";
const TOKEN: &str = "io.k8s.api.authentication.v1.TokenRequest";

impl Call {
    /// A body of another kind than the resource's.
    pub fn read_as(
        &self,
        kind: (&str, &str, &str),
        type_name: &str,
        media_type: &str,
        bytes: &[u8],
        options: &WriteOptions,
    ) -> Result<Value, StatusError> {
        let expected = Expected {
            kind: GroupVersionKind::new(kind.0, kind.1, kind.2),
            type_name,
        };
        let types = rutter_api::schema::builtin();
        let (object, warnings) = body::object(types, &expected, media_type, bytes, options.validation)?;
        self.warn(warnings);
        Ok(object)
    }

    /// GET of `scale`.
    pub async fn get_scale(&self) -> Answer {
        self.settle("").await?;
        let entry = self.server.cache.get(&self.key(&self.info.name)?);
        let entry = entry.ok_or_else(|| self.not_found(&self.info.name))?;
        Ok(self.answer_scale(&self.to_served(&entry.bytes()).await?))
    }

    fn answer_scale(&self, object: &Value) -> http::Response<crate::answer::Body> {
        self.answer_as(
            StatusCode::OK,
            &self.scale_of(object),
            rutter_api::schema::builtin(),
            SCALE,
        )
    }

    /// The Scale of an object.
    fn scale_of(&self, object: &Value) -> Value {
        let paths = self.served.custom(&self.resource).and_then(Custom::scale);
        let at = |custom: Option<&str>, usual: &str| object.at(custom.unwrap_or(usual)).clone();
        let replicas = at(paths.map(|p| p.spec.as_str()), "spec.replicas");
        let current = at(paths.map(|p| p.status.as_str()), "status.replicas");
        let selector = match paths {
            Some(paths) => paths
                .selector
                .as_deref()
                .map(|path| object.str_at(path).to_owned())
                .unwrap_or_default(),
            None => selector_text(object.at("spec.selector")),
        };
        let mut metadata = json!({
            "name": object.name(),
            "uid": object.uid(),
            "resourceVersion": object.resource_version(),
            "creationTimestamp": object.at("metadata.creationTimestamp"),
        });
        if !object.namespace().is_empty() {
            metadata.set("namespace", object.namespace());
        }
        let mut scale = json!({
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": metadata,
            "spec": {},
            "status": {"replicas": current.as_i64().unwrap_or_default()},
        });
        if let Some(replicas) = replicas.as_i64().filter(|replicas| *replicas != 0) {
            scale.set("spec.replicas", replicas);
        }
        if !selector.is_empty() {
            scale.set("status.selector", selector);
        }
        scale
    }

    /// PUT of `scale`.
    pub async fn replace_scale(&self, media_type: &str, bytes: Bytes) -> Answer {
        let options = WriteOptions::read(&self.query, "UpdateOptions")?;
        let scale = self.read_as(
            ("autoscaling", "v1", "Scale"),
            SCALE,
            media_type,
            &bytes,
            &options,
        )?;
        self.change_scale(&options, &|_| Ok(scale.clone())).await
    }

    /// PATCH of `scale`.
    pub async fn patch_scale(&self, media_type: &str, bytes: Bytes) -> Answer {
        let (patch, options) = self.read_patch(media_type, &bytes)?;
        self.change_scale(&options, &|scale| {
            self.patched_as(&patch, Some(scale), &options, SCALE)
        })
        .await
    }

    async fn change_scale(
        &self,
        options: &WriteOptions,
        make: &(dyn Fn(&Value) -> Result<Value, StatusError> + Sync),
    ) -> Answer {
        let paths = self.served.custom(&self.resource).and_then(Custom::scale);
        let field = paths.map_or("spec.replicas", |paths| paths.spec.as_str());
        let kind = GroupKind::new("autoscaling", "Scale");
        let apply = |old: Option<&Value>| {
            let old = old.ok_or_else(|| self.not_found(&self.info.name))?;
            let scale = make(&self.scale_of(old))?;
            let replicas = scale.int_at("spec.replicas").unwrap_or_default();
            if replicas < 0 {
                let error = FieldError::invalid(
                    &Path::new("spec.replicas"),
                    replicas,
                    "must be greater than or equal to 0",
                );
                return Err(StatusError::invalid(&kind, &self.info.name, &[error]));
            }
            let uid = scale.uid();
            if !uid.is_empty() && uid != old.uid() {
                return Err(StatusError::conflict(
                    &self.group_resource(),
                    &self.info.name,
                    &format!(
                        "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                        old.uid()
                    ),
                ));
            }
            let mut object = old.clone();
            object.set(field, replicas);
            object.set("metadata.resourceVersion", scale.resource_version());
            Ok(object)
        };
        let change = Change {
            make: &apply,
            creates: false,
            direct: false,
            managed: true,
        };
        let changed = self.change(&change, options).await?;
        Ok(self.answer_scale(&changed.kept.object))
    }

    /// POST of a Binding, to `pods/binding` or to `bindings`.
    pub async fn bind(&self, media_type: &str, bytes: Bytes) -> Answer {
        let options = WriteOptions::read(&self.query, "CreateOptions")?;
        let mut binding = self.read_as(("", "v1", "Binding"), BINDING, media_type, &bytes, &options)?;
        self.place(&mut binding)?;
        if self.info.name.is_empty() {
            let pods = self.served.scheme.get(&GroupVersion::new("", "v1"), "pods");
            let mut call = self.again_on(pods.cloned().ok_or_else(StatusError::path_not_found)?);
            binding.name().clone_into(&mut call.info.name);
            "binding".clone_into(&mut call.info.subresource);
            return Box::pin(call.bound(binding, &options)).await;
        }
        if !binding.name().is_empty() && binding.name() != self.info.name {
            return Err(StatusError::bad_request(format!(
                "name in URL does not match name in Binding object: {} != {}",
                self.info.name,
                binding.name()
            )));
        }
        self.bound(binding, &options).await
    }

    async fn bound(&self, binding: Value, options: &WriteOptions) -> Answer {
        let (kind, node) = (binding.str_at("target.kind"), binding.str_at("target.name"));
        let mut errors = Vec::new();
        if !matches!(kind, "" | "Node") {
            errors.push(FieldError::not_supported(
                &Path::new("target.kind"),
                kind,
                &["Node", "<empty>"],
            ));
        }
        if node.is_empty() {
            errors.push(FieldError::required(&Path::new("target.name"), ""));
        }
        if !errors.is_empty() {
            return Err(StatusError::invalid(&GroupKind::new("", "Binding"), "", &errors));
        }
        let mut attributes = self.attributes(
            Operation::Create,
            &self.info.name,
            binding.clone(),
            &Value::Null,
            &options.object,
            options.dry_run,
        );
        self.admit_change(&mut attributes).await?;
        self.admit(&mut attributes).await?;
        let now = super::create::rfc3339(self.now);
        let name = self.info.name.as_str();
        let pods = self.group_resource();
        let make = |old: Option<&Value>| {
            let old = old.ok_or_else(|| self.not_found(name))?;
            let conflict = |why: String| StatusError::conflict(&pods, name, &why);
            for (what, sent, have) in [
                ("UID", binding.uid(), old.uid()),
                (
                    "ResourceVersion",
                    binding.resource_version(),
                    old.resource_version(),
                ),
            ] {
                if !sent.is_empty() && sent != have {
                    let why = format!(
                        "Precondition failed: {what} in precondition: {sent}, {what} in object meta: {have}"
                    );
                    return Err(conflict(why));
                }
            }
            if old.is_deleting() {
                return Err(conflict(format!(
                    "pod {name} is being deleted, cannot be assigned to a host"
                )));
            }
            if !old.str_at("spec.nodeName").is_empty() {
                let held = old.str_at("spec.nodeName");
                return Err(conflict(format!(
                    "pod {name} is already assigned to node {held:?}"
                )));
            }
            if !old.list_at("spec.schedulingGates").is_empty() {
                return Err(conflict(format!(
                    "pod {name} has non-empty .spec.schedulingGates"
                )));
            }
            let mut pod = old.clone();
            pod.set("spec.nodeName", node);
            for field in ["annotations", "labels"] {
                for (key, value) in binding.map_at(&format!("metadata.{field}")).into_iter().flatten() {
                    if let Some(map) = object_at(&mut pod, &format!("metadata.{field}")) {
                        map.insert(key.clone(), value.clone());
                    }
                }
            }
            set_condition(
                &mut pod,
                json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now}),
            );
            Ok(pod)
        };
        let change = Change {
            make: &make,
            creates: false,
            direct: true,
            managed: false,
        };
        self.change(&change, options).await?;
        Ok(self.success(StatusCode::CREATED))
    }

    /// A `Status` of success.
    pub fn success(&self, code: StatusCode) -> http::Response<crate::answer::Body> {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code.as_u16(),
        });
        let types = rutter_api::schema::builtin();
        self.answer_as(code, &status, types, crate::answer::STATUS_TYPE)
    }

    /// POST of an Eviction.
    pub async fn evict(&self, media_type: &str, bytes: Bytes) -> Answer {
        let options = WriteOptions::read(&self.query, "CreateOptions")?;
        let eviction = self.read_as(
            ("policy", "v1", "Eviction"),
            EVICTION,
            media_type,
            &bytes,
            &options,
        )?;
        let name = self.info.name.as_str();
        if !eviction.name().is_empty() && eviction.name() != name {
            return Err(StatusError::bad_request(format!(
                "name in URL does not match name in Eviction object: {name} != {}",
                eviction.name()
            )));
        }
        let mut deletion = DeleteOptions::read(&self.query, eviction.at("deleteOptions").clone())?;
        deletion.dry_run |= options.dry_run;
        let mut attributes = self.attributes(
            Operation::Create,
            name,
            eviction.clone(),
            &Value::Null,
            &options.object,
            deletion.dry_run,
        );
        self.admit_change(&mut attributes).await?;
        self.admit(&mut attributes).await?;
        let stored = self.load(name, true).await?.ok_or_else(|| self.not_found(name))?;
        let pod = stored.object;
        if deletion.uid.is_none() {
            deletion.uid = Some(pod.uid().to_owned());
        }
        let ignores_budget =
            pod.is_deleting() || matches!(pod.str_at("status.phase"), "Succeeded" | "Failed" | "Pending");
        if !ignores_budget {
            self.spend_budget(&pod, deletion.dry_run).await?;
            if !deletion.dry_run {
                self.mark_disrupted().await?;
            }
        }
        let mut call = self.again_on(self.resource.clone());
        call.info.subresource.clear();
        call.remove_object(name, &deletion).await?;
        Ok(self.success(StatusCode::CREATED))
    }

    /// Takes one disruption from the pod's budget, if it has one.
    async fn spend_budget(&self, pod: &Value, dry_run: bool) -> Result<(), StatusError> {
        let budgets = rutter_api::GroupResource::new("policy", "poddisruptionbudgets");
        self.settle("").await?;
        let matching: Vec<_> = self
            .server
            .reader
            .list(&budgets, Some(&self.info.namespace))
            .into_iter()
            .filter(|budget| {
                LabelSelector::from_object(budget.at("spec.selector"))
                    .is_ok_and(|selector| selector.matches_object(pod))
            })
            .collect();
        let budget = match matching.as_slice() {
            [] => return Ok(()),
            [budget] => budget.clone(),
            _ => {
                return Err(StatusError::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        };
        let ready = pod
            .list_at("status.conditions")
            .iter()
            .any(|condition| condition.str_at("type") == "Ready" && condition.str_at("status") == "True");
        let healthy = |field: &str| budget.int_at(&format!("status.{field}")).unwrap_or_default();
        if !ready {
            let always = budget.str_at("spec.unhealthyPodEvictionPolicy") == "AlwaysAllow";
            let enough =
                healthy("currentHealthy") >= healthy("desiredHealthy") && healthy("desiredHealthy") > 0;
            if always || enough {
                return Ok(());
            }
        }
        let resource = self
            .served
            .scheme
            .get(&GroupVersion::new("policy", "v1"), "poddisruptionbudgets");
        let mut call = self.again_on(resource.cloned().ok_or_else(StatusError::path_not_found)?);
        budget.name().clone_into(&mut call.info.name);
        "status".clone_into(&mut call.info.subresource);
        let now = super::create::rfc3339(self.now);
        let make = |old: Option<&Value>| {
            let mut budget = old.cloned().ok_or_else(|| self.not_found(pod.name()))?;
            check_budget(&budget)?;
            let allowed = budget.int_at("status.disruptionsAllowed").unwrap_or_default();
            budget.set("status.disruptionsAllowed", allowed - 1);
            if let Some(map) = object_at(&mut budget, "status.disruptedPods") {
                map.insert(pod.name().to_owned(), Value::from(now.as_str()));
            }
            Ok(budget)
        };
        let change = Change {
            make: &make,
            creates: false,
            direct: true,
            managed: false,
        };
        let options = WriteOptions {
            dry_run,
            ..WriteOptions::default()
        };
        call.change(&change, &options).await.map(|_| ())
    }

    /// Writes the condition that tells why the pod goes.
    async fn mark_disrupted(&self) -> Result<(), StatusError> {
        let now = super::create::rfc3339(self.now);
        let make = |old: Option<&Value>| {
            let mut pod = old.cloned().ok_or_else(|| self.not_found(&self.info.name))?;
            set_condition(
                &mut pod,
                json!({
                    "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                    "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": now,
                }),
            );
            Ok(pod)
        };
        let change = Change {
            make: &make,
            creates: false,
            direct: true,
            managed: false,
        };
        self.change(&change, &WriteOptions::default()).await.map(|_| ())
    }

    /// POST of a TokenRequest.
    pub async fn token(&self, media_type: &str, bytes: Bytes) -> Answer {
        let options = WriteOptions::read(&self.query, "CreateOptions")?;
        let kind = ("authentication.k8s.io", "v1", "TokenRequest");
        let request = self.read_as(kind, TOKEN, media_type, &bytes, &options)?;
        self.settle("").await?;
        let tokens = &self.server.tokens;
        let mut attributes = self.attributes(
            Operation::Create,
            &self.info.name,
            request,
            &Value::Null,
            &options.object,
            options.dry_run,
        );
        // A node's audiences are judged as it sent them: the server's own, filled in below, are nobody's to ask for.
        self.admit_change(&mut attributes).await?;
        let request = std::mem::take(&mut attributes.object);
        attributes.object = tokens.prepare(request, &self.info.namespace, &self.info.name, self.now)?;
        self.admit(&mut attributes).await?;
        let request = std::mem::take(&mut attributes.object);
        let issued = tokens.issue(request, self.now, &uuid::Uuid::new_v4().to_string())?;
        self.warn(issued.warnings);
        let types = rutter_api::schema::builtin();
        Ok(self.answer_as(StatusCode::CREATED, &issued.object, types, TOKEN))
    }

    /// The same request on another resource.
    fn again_on(&self, resource: std::sync::Arc<rutter_api::Resource>) -> Self {
        Self {
            server: self.server.clone(),
            served: self.served.clone(),
            resource,
            info: self.info.clone(),
            query: self.query.clone(),
            user: self.user.clone(),
            agent: self.agent.clone(),
            now: self.now,
            accept: self.accept,
            warnings: parking_lot::Mutex::default(),
            annotations: Default::default(),
            record: self.record.clone(),
            passage: Default::default(),
        }
    }
}

/// Whether a budget has a disruption to give.
fn check_budget(budget: &Value) -> Result<(), StatusError> {
    let name = budget.name();
    let number = |path: &str| budget.int_at(path).unwrap_or_default();
    let refuse = |message: String, seconds: u32, cause: String| {
        let cause = Cause {
            reason: "DisruptionBudget".to_owned(),
            message: cause,
            field: String::new(),
        };
        Err(StatusError {
            causes: vec![cause],
            ..StatusError::too_many_requests(message, seconds)
        })
    };
    let violation = "Cannot evict pod as it would violate the pod's disruption budget.";
    if number("status.observedGeneration") < number("metadata.generation") {
        let cause = format!("The disruption budget {name} is still being processed by the server.");
        return refuse(violation.to_owned(), 10, cause);
    }
    if number("status.disruptionsAllowed") < 0 {
        return Err(StatusError::new(
            Reason::Forbidden,
            "pdb disruptions allowed is negative",
        ));
    }
    if budget
        .map_at("status.disruptedPods")
        .is_some_and(|pods| pods.len() > 2000)
    {
        return Err(StatusError::new(
            Reason::Forbidden,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if number("status.disruptionsAllowed") == 0 {
        let cause = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            number("status.desiredHealthy"),
            number("status.currentHealthy")
        );
        return refuse(violation.to_owned(), 0, cause);
    }
    Ok(())
}

/// The map at a path, made where absent.
fn object_at<'a>(object: &'a mut Value, path: &str) -> Option<&'a mut serde_json::Map<String, Value>> {
    if !object.at(path).is_object() {
        object.set(path, serde_json::Map::new());
    }
    object.at_mut(path).as_object_mut()
}

/// Sets a condition of a status; the time of transition stays unless its status changes.
fn set_condition(object: &mut Value, mut condition: Value) {
    if !object.at("status.conditions").is_array() {
        object.set("status.conditions", Vec::<Value>::new());
    }
    let Some(list) = object.list_at_mut("status.conditions") else {
        return;
    };
    let kind = condition.str_at("type").to_owned();
    match list.iter_mut().find(|have| have.str_at("type") == kind) {
        Some(have) => {
            if have.str_at("status") == condition.str_at("status") {
                condition.set("lastTransitionTime", have.at("lastTransitionTime").clone());
            }
            *have = condition;
        }
        None => list.push(condition),
    }
}

/// A selector (object or map of labels) as text, for Scale's status.
fn selector_text(selector: &Value) -> String {
    let Some(map) = selector.as_object() else {
        return String::new();
    };
    let parsed = if map.contains_key("matchLabels") || map.contains_key("matchExpressions") {
        LabelSelector::from_object(selector).ok()
    } else {
        Some(LabelSelector::from_map(selector))
    };
    parsed.map(|selector| selector.to_string()).unwrap_or_default()
}
