//! What calls cost, by their overloads.

use super::{
    AUTHORIZATION, Argument, CallEstimate, Coster, EntrySize, Estimate, LIST, PER_CHARACTER,
    PER_PATTERN_CHARACTER, STRUCT,
};
use crate::ast::{Id, Literal, Node};
use crate::types::Type;
use crate::value::Native;

/// A selector has at most one requirement for every two characters.
const REQUIREMENTS_PER_CHARACTER: f64 = 0.5;
/// The longest regular expression of a named format.
const LONGEST_FORMAT: f64 = 128.0;
/// The longest name of a format.
const LONGEST_FORMAT_NAME: u64 = 64;

/// What reading a selector of a size costs.
pub(crate) fn selector(size: Estimate) -> Estimate {
    let requirements = size
        .scaled(REQUIREMENTS_PER_CHARACTER)
        .scaled((LIST + STRUCT) as f64);
    Estimate::of(LIST)
        .plus(size.scaled(PER_CHARACTER))
        .plus(requirements)
}

fn plain(cost: Estimate) -> Option<CallEstimate> {
    Some(CallEstimate { cost, size: None })
}

fn sized(cost: Estimate, size: Estimate) -> Option<CallEstimate> {
    Some(CallEstimate {
        cost,
        size: Some(size),
    })
}

impl Coster<'_> {
    pub(super) fn function(
        &mut self,
        id: Id,
        name: &str,
        overload: &str,
        target: Option<&Argument>,
        args: &[Argument],
        costs: &[Estimate],
    ) -> CallEstimate {
        let sum = costs
            .iter()
            .fold(Estimate::default(), |sum, cost| sum.plus(*cost));
        let known = self
            .list_call(overload, target, args)
            .or_else(|| self.kubernetes(name, overload, target, args))
            .or_else(|| self.standard(id, overload, target, args));
        if let Some(call) = known {
            return CallEstimate {
                cost: call.cost.plus(sum),
                size: call.size,
            };
        }
        match overload {
            // The right side may not be evaluated.
            "logical_or" | "logical_and" => CallEstimate {
                cost: Estimate {
                    min: costs[0].min,
                    max: costs[0].plus(costs[1]).max,
                },
                size: None,
            },
            "conditional" => {
                let size = self.known_size(&args[1]).union(self.known_size(&args[2]));
                let entry = EntrySize::union(self.entry_of(&args[1]), self.entry_of(&args[2]));
                self.set_entry(id, entry);
                CallEstimate {
                    cost: costs[0].plus(costs[1].union(costs[2])),
                    size: Some(size),
                }
            }
            _ => CallEstimate {
                cost: Estimate::of(1).plus(sum),
                size: None,
            },
        }
    }

    fn entry_of(&self, argument: &Argument) -> Option<EntrySize> {
        self.entry(argument.id?)
    }

    /// The size computed from the expression.
    fn known_size(&self, argument: &Argument) -> Estimate {
        argument.size.unwrap_or(Estimate::UNKNOWN)
    }

    /// The size computed from the expression, else that of the data at the path.
    fn data_size(&self, argument: &Argument) -> Estimate {
        let known = argument.size.or_else(|| self.sizes.size(&argument.path));
        known.unwrap_or(Estimate::UNKNOWN)
    }

    fn element(&self, list: &Argument) -> Option<Argument> {
        let ty = match &list.ty {
            Type::List(element) | Type::Optional(element) | Type::Type(Some(element)) => {
                element.as_ref().clone()
            }
            Type::Map(entry) => entry.0.clone(),
            _ => return None,
        };
        let mut path = list.path.clone();
        if !path.is_empty() {
            path.push("@items".to_owned());
        }
        Some(Argument {
            id: None,
            path,
            ty,
            size: None,
        })
    }

    fn literal_int(&self, argument: &Argument, otherwise: u64) -> u64 {
        match argument.id.map(|id| self.checked.ast.node(id)) {
            Some(Node::Literal(Literal::Int(n))) => u64::try_from(*n).unwrap_or_default(),
            _ => otherwise,
        }
    }

    /// Calls on whole lists, which upstream's list and set libraries price themselves.
    fn list_call(
        &self,
        overload: &str,
        target: Option<&Argument>,
        args: &[Argument],
    ) -> Option<CallEstimate> {
        let made = |factor: f64, size: Estimate| {
            let cost = size.scaled(factor).plus(Estimate::of(1)).plus(Estimate::of(LIST));
            sized(cost, size)
        };
        match (overload, target, args) {
            (
                "list_sets_contains_list" | "list_sets_intersects_list" | "list_sets_equivalent_list",
                _,
                [a, b],
            ) => {
                let factor = if overload == "list_sets_equivalent_list" {
                    2.0
                } else {
                    1.0
                };
                let product = self.data_size(a).times(self.data_size(b));
                plain(product.scaled(factor).plus(Estimate::of(1)))
            }
            ("list_slice", Some(target), [start, end]) => {
                let size = self.data_size(target);
                let (start, end) = (self.literal_int(start, 0), self.literal_int(end, size.max));
                made(1.0, Estimate::of(end.wrapping_sub(start)))
            }
            ("lists_range", None, [count]) => made(1.0, Estimate::of(self.literal_int(count, u64::MAX))),
            ("list_reverse", Some(target), []) => made(1.0, self.data_size(target)),
            ("list_flatten", Some(target), []) => made(1.0, self.data_size(target)),
            ("list_flatten_int", Some(target), [depth]) => {
                made(self.literal_int(depth, u64::MAX) as f64, self.data_size(target))
            }
            ("list_distinct", Some(target), []) => {
                let size = self.data_size(target);
                made(2.0, size.times(size))
            }
            (sort, Some(target), _) if sort.ends_with("_sort") || sort.ends_with("_sortByAssociatedKeys") => {
                let size = self.data_size(args.first().unwrap_or(target));
                let texts = sort.starts_with("list_string_") || sort.starts_with("list_bytes_");
                let factor = if texts { 2.0 + PER_CHARACTER } else { 2.0 };
                made(factor, size.times(size))
            }
            _ => None,
        }
    }

    /// Calls of Kubernetes' libraries.
    fn kubernetes(
        &self,
        name: &str,
        overload: &str,
        target: Option<&Argument>,
        args: &[Argument],
    ) -> Option<CallEstimate> {
        let read = |argument: &Argument, factor: f64| self.data_size(argument).scaled(factor);
        match (name, target, args) {
            ("check", ..) => plain(Estimate::of(AUTHORIZATION)),
            ("fieldSelector" | "labelSelector", _, [text]) => plain(selector(self.data_size(text))),
            ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(target), _) => {
                let size = self.data_size(target);
                let Some(element) = self.element(target) else {
                    return plain(size.scaled(PER_CHARACTER));
                };
                let mut each = Estimate::of(1);
                if matches!(element.ty, Type::String | Type::Bytes) {
                    each = each.plus(self.data_size(&element).scaled(PER_CHARACTER));
                }
                plain(size.times(each))
            }
            ("url" | "jsonpatch.escapeKey", _, [text]) => {
                sized(read(text, PER_CHARACTER), self.data_size(text))
            }
            ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(target), _) => {
                sized(read(target, PER_CHARACTER), self.data_size(target))
            }
            ("replace", Some(target), [old, new, ..]) => {
                let size = self.data_size(target);
                let result = replaced(size, self.data_size(old), self.data_size(new));
                sized(size.scaled(2.0 * PER_CHARACTER), result)
            }
            ("split", Some(target), _) => {
                let size = self.data_size(target);
                let most = args.get(1).map_or(size.max, |limit| self.limit(limit, size.max));
                sized(size.scaled(2.0 * PER_CHARACTER), Estimate { min: 0, max: most })
            }
            ("join", Some(target), _) => {
                let count = self.data_size(target);
                let mut size = match self.element(target) {
                    Some(element) => count.times(self.data_size(&element)),
                    None => Estimate::default(),
                };
                if let Some(separator) = args.first() {
                    let between = Estimate {
                        min: count.min.saturating_sub(1),
                        max: count.max.saturating_sub(1),
                    };
                    size = size.plus(self.data_size(separator).times(between));
                }
                sized(size.scaled(PER_CHARACTER), size)
            }
            ("find" | "findAll", Some(target), [pattern, ..]) => {
                let size = self.data_size(target);
                let text = size.plus(Estimate::of(1)).scaled(PER_CHARACTER);
                let cost = text.times(read(pattern, PER_PATTERN_CHARACTER));
                sized(
                    cost,
                    Estimate {
                        min: 0,
                        max: size.max,
                    },
                )
            }
            ("containsIP" | "containsCIDR", _, [other]) => {
                let address = Estimate { min: 4, max: 16 };
                let mut cost = address.plus(address).scaled(PER_CHARACTER);
                if name == "containsCIDR" {
                    cost = cost.plus(address.scaled(PER_CHARACTER)).plus(Estimate::of(1));
                }
                if overload.ends_with("_string") {
                    cost = cost.plus(read(other, PER_CHARACTER));
                }
                plain(cost)
            }
            ("ip", ..) if overload == "cidr_ip" => plain(Estimate::of(1)),
            (
                "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver",
                _,
                [text, ..],
            ) => plain(read(text, PER_CHARACTER)),
            ("ip.isCanonical", _, [text]) => plain(read(text, 2.0 * PER_CHARACTER)),
            ("validate", _, [text]) => {
                plain(read(text, PER_CHARACTER).scaled(LONGEST_FORMAT * PER_PATTERN_CHARACTER))
            }
            ("_==_", _, [a, b]) if a.ty == b.ty => self.native_equality(a, b),
            _ => None,
        }
    }

    /// The number that a part says literally.
    fn limit(&self, argument: &Argument, otherwise: u64) -> u64 {
        match argument.id.map(|id| self.checked.ast.node(id)) {
            Some(Node::Literal(Literal::Int(n))) => *n as u64,
            _ => otherwise,
        }
    }

    fn native_equality(&self, _a: &Argument, b: &Argument) -> Option<CallEstimate> {
        let name = match &b.ty {
            Type::Opaque(name) => *name,
            Type::Struct(name) => name,
            _ => return None,
        };
        match name {
            Native::IP
            | Native::CIDR
            | Native::QUANTITY
            | Native::SEMVER
            | Native::AUTHORIZER
            | Native::PATH_CHECK
            | Native::GROUP_CHECK
            | Native::RESOURCE_CHECK
            | Native::DECISION => plain(Estimate::of(1)),
            Native::FORMAT => plain(
                Estimate {
                    min: 1,
                    max: LONGEST_FORMAT_NAME,
                }
                .scaled(PER_CHARACTER),
            ),
            Native::URL => {
                let max = b.size.map_or(1, |size| size.max);
                plain(Estimate { min: 1, max }.scaled(PER_CHARACTER))
            }
            _ => None,
        }
    }

    /// Calls of the language itself that take longer for larger values.
    fn standard(
        &mut self,
        id: Id,
        overload: &str,
        target: Option<&Argument>,
        args: &[Argument],
    ) -> Option<CallEstimate> {
        match (overload, target, args) {
            ("string_format", Some(target), _) => plain(self.known_size(target).scaled(PER_CHARACTER)),
            ("string_to_bytes", _, [text]) => {
                let size = self.known_size(text);
                let max = size.max.wrapping_mul(4);
                sized(size.scaled(PER_CHARACTER), Estimate { min: size.min, max })
            }
            ("bytes_to_string", _, [bytes]) => {
                let size = self.known_size(bytes);
                let min = size.min / 4;
                sized(size.scaled(PER_CHARACTER), Estimate { min, max: size.max })
            }
            ("strings_quote", _, [text]) => {
                let size = self.known_size(text);
                let quoted = Estimate {
                    min: size.min.wrapping_add(2),
                    max: size.max.wrapping_mul(2).wrapping_add(2),
                };
                sized(size.scaled(PER_CHARACTER), quoted)
            }
            ("starts_with_string" | "ends_with_string", _, [part]) => {
                plain(self.known_size(part).scaled(PER_CHARACTER))
            }
            ("in_list", _, [_, list]) => plain(self.known_size(list)),
            ("matches_string", Some(target), [pattern]) => {
                let text = self
                    .known_size(target)
                    .plus(Estimate::of(1))
                    .scaled(PER_CHARACTER);
                plain(text.times(self.known_size(pattern).scaled(PER_PATTERN_CHARACTER)))
            }
            ("contains_string", Some(target), [part]) => {
                let text = self.known_size(target).scaled(PER_CHARACTER);
                plain(text.times(self.known_size(part).scaled(PER_CHARACTER)))
            }
            ("add_string" | "add_bytes" | "add_list", _, [a, b]) => {
                let size = self.known_size(a).plus(self.known_size(b));
                let entry = EntrySize::union(self.entry_of(a), self.entry_of(b));
                self.set_entry(id, entry);
                match overload {
                    "add_list" => sized(Estimate::of(1), size),
                    _ => sized(size.scaled(PER_CHARACTER), size),
                }
            }
            ("equals" | "not_equals", _, [a, b]) => plain(self.comparison(a, b)),
            (order, _, [a, b]) if ordered_texts(order) => plain(self.comparison(a, b)),
            _ => None,
        }
    }

    fn comparison(&self, a: &Argument, b: &Argument) -> Estimate {
        let max = self.known_size(a).max.min(self.known_size(b).max);
        let min = u64::from(max > 0);
        Estimate { min, max }.scaled(PER_CHARACTER)
    }
}

/// Whether an overload puts texts or bytes in order.
pub(crate) fn ordered_texts(overload: &str) -> bool {
    let (name, ty) = overload.rsplit_once('_').unwrap_or((overload, ""));
    matches!(ty, "string" | "bytes") && matches!(name, "less" | "less_equals" | "greater" | "greater_equals")
}

/// How large a text is in which every `old` has become `new`.
fn replaced(size: Estimate, old: Estimate, new: Estimate) -> Estimate {
    let (mut count, mut kept) = (Estimate::default(), Estimate::default());
    if old.min == 0 {
        count.max = size.max.saturating_add(1);
        kept.max = size.max;
    } else if new.max <= old.min {
        kept.max = size.max;
    } else {
        count.max = (size.max as f64 / old.min as f64).ceil() as u64;
    }
    if old.max == 0 {
        count.min = size.min.saturating_add(1);
        kept.min = size.min;
    } else if old.max <= new.min {
        kept.min = size.min;
    } else {
        count.min = (size.min as f64 / old.max as f64).ceil() as u64;
    }
    count.times(new).plus(kept)
}
