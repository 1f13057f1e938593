//! The builder: which objects a command's arguments mean, and reading them.
//!
//! Accepts TYPE, TYPE NAME..., TYPE/NAME..., comma-separated types and categories, selectors and manifests, with
//! kubectl's rules on what may be combined and its error texts.

use super::{Info, files};
use crate::cli::Call;
use crate::context::Ctx;
use crate::discovery::{Discovery, Mapping};
use crate::error::{Error, Result, go_quote};
use crate::rest::{Rest, with_query};
use serde_json::Value;
use std::rc::Rc;

/// What to look for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Manifests.
    pub filenames: Vec<String>,
    /// A kustomization's directory.
    pub kustomize: String,
    /// Directories in depth.
    pub recursive: bool,
    /// Types and names.
    pub args: Vec<String>,
    /// Label selector.
    pub selector: String,
    /// Field selector.
    pub field_selector: String,
    /// All namespaces.
    pub all_namespaces: bool,
    /// Types without names mean all objects.
    pub all: bool,
    /// Types may stand without names and then mean all objects, names being allowed too.
    pub list_types: bool,
    /// What manifests hold is validated before it is sent.
    pub validating: bool,
    /// Manifests may name any namespace.
    pub any_namespace: bool,
    /// Page size; 0 is everything at once.
    pub chunk: i64,
    /// Subresource to read.
    pub subresource: String,
}

/// One thing to act on.
#[derive(Clone, Debug)]
pub enum Target {
    /// From a manifest.
    Object(Info),
    /// By name.
    Named(Info),
    /// All objects that selectors match.
    List {
        /// Resource.
        mapping: Rc<Mapping>,
        /// Namespace; empty for all.
        namespace: String,
    },
}

impl Target {
    /// Its resource.
    pub fn mapping(&self) -> &Rc<Mapping> {
        match self {
            Self::Object(i) | Self::Named(i) => &i.mapping,
            Self::List { mapping, .. } => mapping,
        }
    }
}

/// What the arguments mean.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// In the order of the arguments.
    pub items: Vec<Target>,
    /// Exactly one object was named.
    pub single: bool,
    /// Arguments that mean nothing.
    pub errors: Vec<Error>,
}

impl Query {
    /// From the usual flags, those that the command has.
    pub fn from_call(call: &Call) -> Self {
        let f = &call.flags;
        let text = |name: &str| f.opt(name).unwrap_or("").to_owned();
        Self {
            filenames: if f.has("filename") {
                f.list("filename")
            } else {
                Vec::new()
            },
            kustomize: text("kustomize"),
            recursive: f.opt_bool("recursive"),
            args: call.before_dash().to_vec(),
            selector: text("selector"),
            field_selector: text("field-selector"),
            all_namespaces: f.opt_bool("all-namespaces"),
            all: f.opt_bool("all"),
            list_types: false,
            validating: f
                .opt("validate")
                .is_some_and(|v| !matches!(v, "false" | "ignore")),
            any_namespace: false,
            chunk: f.opt("chunk-size").and_then(|c| c.parse().ok()).unwrap_or(500),
            subresource: text("subresource"),
        }
    }

    /// With these arguments.
    pub fn args_of(mut self, args: &[&str]) -> Self {
        self.args = args.iter().map(|a| (*a).to_owned()).collect();
        self
    }

    /// Whether manifests are named.
    pub fn has_files(&self) -> bool {
        !self.filenames.is_empty() || !self.kustomize.is_empty()
    }

    /// The documents of the manifests.
    pub async fn documents(&self) -> Result<Vec<files::Document>> {
        if !self.kustomize.is_empty() {
            if !self.filenames.is_empty() {
                return Err(Error::new("only one of -f or -k can be specified"));
            }
            let built = crate::kustomize::build(&self.kustomize).await?;
            return Ok(built
                .into_iter()
                .map(|value| files::Document {
                    value,
                    source: self.kustomize.clone(),
                    problem: None,
                })
                .collect());
        }
        files::read(&self.filenames, self.recursive).await
    }

    /// The manifests' objects as they are, for commands that reach no server.
    pub async fn local(&self) -> Result<Vec<Info>> {
        let documents = self.documents().await?;
        documents
            .into_iter()
            .map(|d| {
                d.check(false)?;
                Ok(Info {
                    mapping: Rc::new(Mapping {
                        group: crate::print::group_of(&d.value).to_owned(),
                        kind: d.value["kind"].as_str().unwrap_or("").to_owned(),
                        ..Default::default()
                    }),
                    namespace: d.value["metadata"]["namespace"].as_str().unwrap_or("").to_owned(),
                    name: d.value["metadata"]["name"].as_str().unwrap_or("").to_owned(),
                    object: d.value,
                    source: d.source,
                })
            })
            .collect()
    }

    /// Finds the targets.
    pub async fn targets(&self, ctx: &Ctx) -> Result<Targets> {
        let namespace = ctx.namespace()?;
        let mut out = Targets::default();
        if self.has_files() {
            if !self.args.is_empty() {
                return Err(Error::new(
                    "when paths, URLs, or stdin is provided as input, you may not specify resource arguments as well",
                ));
            }
            let documents = self.documents().await?;
            let discovery = ctx.discovery().await?;
            out.single = documents.len() == 1 && self.filenames.len() == 1;
            for document in documents {
                if let Err(e) = document.check(self.validating) {
                    out.errors.push(e);
                    continue;
                }
                match info(
                    &discovery,
                    document,
                    &namespace,
                    ctx.explicit_namespace() && !self.any_namespace,
                ) {
                    Ok(i) => out.items.push(Target::Object(i)),
                    Err(e) => out.errors.push(e),
                }
            }
            return Ok(out);
        }
        let list_namespace = if self.all_namespaces {
            String::new()
        } else {
            namespace.clone()
        };
        let selecting = !self.selector.is_empty() || !self.field_selector.is_empty();
        if self.args.iter().any(|a| a.contains('/')) {
            if self.all_namespaces {
                return Err(Error::new(
                    "a resource cannot be retrieved by name across all namespaces",
                ));
            }
            if selecting {
                return Err(Error::new("name cannot be provided when a selector is specified"));
            }
            if self.all {
                return Err(Error::new(
                    "setting 'all' parameter but found a non empty selector. ",
                ));
            }
            let discovery = ctx.discovery().await?;
            for arg in &self.args {
                self.slash(&discovery, arg, &namespace, &mut out)?;
            }
            out.single = out.items.len() == 1 && !self.args.iter().any(|a| a.contains(','));
            return Ok(out);
        }
        let Some((types, names)) = self.args.split_first() else {
            return Err(Error::new(
                "You must provide one or more resources by argument or filename.\nExample resource specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   '<resource> <name>'\n   '<resource>'",
            ));
        };
        let discovery = ctx.discovery().await?;
        let mappings = resolve_types(&discovery, types)?;
        if names.is_empty() {
            if selecting || self.all || self.list_types {
                for mapping in mappings {
                    out.items.push(Target::List {
                        namespace: if mapping.namespaced {
                            list_namespace.clone()
                        } else {
                            String::new()
                        },
                        mapping,
                    });
                }
                return Ok(out);
            }
            return Err(Error::new("resource(s) were provided, but no name was specified"));
        }
        if selecting {
            return Err(Error::new("name cannot be provided when a selector is specified"));
        }
        if self.all_namespaces {
            return Err(Error::new(
                "a resource cannot be retrieved by name across all namespaces",
            ));
        }
        out.single = names.len() == 1 && mappings.len() == 1;
        for mapping in mappings {
            for name in names {
                out.items.push(Target::Named(named(&mapping, &namespace, name)));
            }
        }
        Ok(out)
    }

    fn slash(&self, discovery: &Discovery, arg: &str, namespace: &str, out: &mut Targets) -> Result<()> {
        let parts: Vec<&str> = arg.split('/').collect();
        match parts.as_slice() {
            [kind, name] if !kind.is_empty() && !name.is_empty() => {
                for mapping in resolve_types(discovery, kind)? {
                    out.items.push(Target::Named(named(&mapping, namespace, name)));
                }
                Ok(())
            }
            [_, _] => Err(Error::new("arguments in resource/name form must have a single resource and name".to_string())),
            [_] => Err(Error::new(
                "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource resource/<resource_name>'".replace("kubectl", crate::cli::PROGRAM),
            )),
            _ => Err(Error::new("arguments in resource/name form may not have more than one slash")),
        }
    }

    /// Selectors and page size as parameters of a list.
    pub fn params(&self) -> Vec<(&'static str, String)> {
        let mut out = Vec::new();
        if !self.field_selector.is_empty() {
            out.push(("fieldSelector", self.field_selector.clone()));
        }
        if !self.selector.is_empty() {
            out.push(("labelSelector", self.selector.clone()));
        }
        out
    }

    /// Finds and reads all objects. Failures of single ones don't stop the rest.
    pub async fn infos(&self, ctx: &Ctx) -> Result<(Vec<Info>, Vec<Error>)> {
        let targets = self.targets(ctx).await?;
        let rest = ctx.rest().await?;
        let mut out = Vec::new();
        let mut errors = targets.errors;
        for target in targets.items {
            match target {
                Target::Object(i) => out.push(i),
                Target::Named(i) => match rest.get(&i.sub_path(&self.subresource)).await {
                    Ok(object) => out.push(i.with(object)),
                    Err(e) => errors.push(e),
                },
                Target::List { mapping, namespace } => {
                    match list(&rest, &mapping, &namespace, &self.params(), self.chunk).await {
                        Ok(items) => out.extend(items.into_iter().map(|o| info_of(&mapping, o))),
                        Err(e) => errors.push(e),
                    }
                }
            }
        }
        Ok((out, errors))
    }

    /// As [`Query::infos`], with manifests' objects read anew from the server.
    pub async fn latest(&self, ctx: &Ctx) -> Result<(Vec<Info>, Vec<Error>)> {
        let (infos, mut errors) = self.infos(ctx).await?;
        if !self.has_files() {
            return Ok((infos, errors));
        }
        let rest = ctx.rest().await?;
        let mut out = Vec::new();
        for i in infos {
            match rest.get(&i.path()).await {
                Ok(object) => out.push(i.with(object)),
                Err(e) => errors.push(e),
            }
        }
        Ok((out, errors))
    }

    /// Exactly one object, read.
    pub async fn one(&self, ctx: &Ctx) -> Result<Info> {
        let (mut infos, errors) = self.latest(ctx).await?;
        Error::collect(errors)?;
        match infos.len() {
            1 => Ok(infos.remove(0)),
            0 => Err(Error::new("no objects passed")),
            n => Err(Error::new(format!("expected exactly one resource, got {n}"))),
        }
    }
}

/// The resources that a comma-separated list of types and categories means.
pub fn resolve_types(discovery: &Discovery, types: &str) -> Result<Vec<Rc<Mapping>>> {
    let mut out: Vec<Rc<Mapping>> = Vec::new();
    for part in types.split(',').map(str::trim) {
        if part.is_empty() {
            return Err(Error::new(
                "arguments must consist of a resource or a list of resources",
            ));
        }
        let category = if part.contains('.') {
            Vec::new()
        } else {
            discovery.category(part)
        };
        if category.is_empty() {
            out.push(discovery.resolve(part)?);
        } else {
            for m in category {
                if !out.contains(&m) {
                    out.push(m);
                }
            }
        }
    }
    Ok(out)
}

fn named(mapping: &Rc<Mapping>, namespace: &str, name: &str) -> Info {
    Info {
        mapping: mapping.clone(),
        namespace: if mapping.namespaced {
            namespace.to_owned()
        } else {
            String::new()
        },
        name: name.to_owned(),
        object: Value::Null,
        source: String::new(),
    }
}

/// The info of an object that the server gave.
pub fn info_of(mapping: &Rc<Mapping>, object: Value) -> Info {
    Info {
        mapping: mapping.clone(),
        namespace: object["metadata"]["namespace"].as_str().unwrap_or("").to_owned(),
        name: object["metadata"]["name"].as_str().unwrap_or("").to_owned(),
        object,
        source: String::new(),
    }
}

/// The info of a document: its resource and its namespace.
pub fn info(
    discovery: &Discovery,
    document: files::Document,
    namespace: &str,
    enforce: bool,
) -> Result<Info> {
    let files::Document {
        mut value, source, ..
    } = document;
    let api_version = value["apiVersion"].as_str().unwrap_or("").to_owned();
    let kind = value["kind"].as_str().unwrap_or("").to_owned();
    let name = value["metadata"]["name"].as_str().unwrap_or("").to_owned();
    let own = value["metadata"]["namespace"].as_str().unwrap_or("").to_owned();
    let Some(mapping) = discovery.by_kind(&api_version, &kind) else {
        let replacement = crate::convert::advice(&api_version, &kind, &source)
            .map(|r| format!("\n{r}"))
            .unwrap_or_default();
        return Err(Error::new(format!(
            "resource mapping not found for name: {} namespace: {} from {}: no matches for kind {} in version {}\nensure CRDs are installed first{replacement}",
            go_quote(&name),
            go_quote(&own),
            go_quote(&source),
            go_quote(&kind),
            go_quote(&api_version)
        )));
    };
    let mut target = String::new();
    if mapping.namespaced {
        if !value["metadata"].is_object() {
            value["metadata"] = serde_json::json!({});
        }
        if own.is_empty() {
            value["metadata"]["namespace"] = Value::from(namespace);
            target = namespace.to_owned();
        } else if enforce && own != namespace {
            return Err(Error::new(format!(
                "the namespace from the provided object {} does not match the namespace {}. You must pass '--namespace={own}' to perform this operation.",
                go_quote(&own),
                go_quote(namespace)
            )));
        } else {
            target = own;
        }
    }
    Ok(Info {
        mapping,
        namespace: target,
        name,
        object: value,
        source,
    })
}

/// Says which selectors a list was asked with, if they may be why it failed.
pub fn unlisted(e: Error, mapping: &Mapping, params: &[(&'static str, String)]) -> Error {
    let Error::Status(mut s) = e else { return e };
    if !matches!(s.reason.as_str(), "BadRequest" | "NotFound") {
        return Error::Status(s);
    }
    let param = |key: &str| {
        params
            .iter()
            .find(|(k, _)| *k == key)
            .map_or("", |(_, v)| v.as_str())
    };
    let (labels, fields) = (param("labelSelector"), param("fieldSelector"));
    let version = if mapping.group.is_empty() {
        format!("/{}", mapping.version)
    } else {
        mapping.api_version()
    };
    let resource = go_quote(&format!("{version}, Resource={}", mapping.plural));
    s.message = if labels.is_empty() && fields.is_empty() {
        format!("Unable to list {resource}: {}", s.message)
    } else {
        format!(
            "Unable to find {resource} that match label selector {}, field selector {}: {}",
            go_quote(labels),
            go_quote(fields),
            s.message
        )
    };
    Error::Status(s)
}

/// All objects of a collection, page by page, each with its kind and version.
pub async fn list(
    rest: &Rest,
    mapping: &Mapping,
    namespace: &str,
    params: &[(&'static str, String)],
    chunk: i64,
) -> Result<Vec<Value>> {
    let whole = list_whole(rest, mapping, namespace, params, chunk).await?;
    Ok(whole.0)
}

/// As [`list`], with the list's resource version.
pub async fn list_whole(
    rest: &Rest,
    mapping: &Mapping,
    namespace: &str,
    params: &[(&'static str, String)],
    chunk: i64,
) -> Result<(Vec<Value>, String)> {
    let mut out = Vec::new();
    let mut token = String::new();
    loop {
        let mut query: Vec<(&str, String)> = params.to_vec();
        if chunk > 0 {
            query.push(("limit", chunk.to_string()));
        }
        if !token.is_empty() {
            query.push(("continue", token.clone()));
        }
        let mut page = rest
            .get(&with_query(&mapping.collection(namespace), &query))
            .await
            .map_err(|e| unlisted(e, mapping, params))?;
        if let Value::Array(items) = page["items"].take() {
            for mut item in items {
                if item["kind"].is_null() {
                    item["kind"] = Value::from(mapping.kind.clone());
                    item["apiVersion"] = Value::from(mapping.api_version());
                }
                out.push(item);
            }
        }
        token = page["metadata"]["continue"].as_str().unwrap_or("").to_owned();
        if token.is_empty() {
            let version = page["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or("")
                .to_owned();
            return Ok((out, version));
        }
    }
}
