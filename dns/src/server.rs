//! The DNS server's edge: questions in, the zone's answers out, all else forwarded.

use crate::objects::Objects;
use crate::zone::{self, Answer, Data, TTL, Type};
use hickory_proto::op::{Edns, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError, NetError, runtime::Time};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use prometheus::{Histogram, IntCounterVec};
use std::net::IpAddr;
use std::time::Instant;

/// How many forwarded questions may wait for other servers at once.
const FORWARDS: usize = 1000;
/// The largest UDP answer in bytes that is sent to those who can take it.
const MAX_PAYLOAD: u16 = 1232;

/// Counters under CoreDNS's names, which dashboards know.
pub struct Metrics {
    /// By record type.
    pub requests: IntCounterVec,
    /// By response code.
    pub responses: IntCounterVec,
    /// Seconds that answers took.
    pub duration: Histogram,
}

/// Answers questions: the cluster's own zone from `objects`, all others through `upstream`.
pub struct Handler<O> {
    domain: String,
    objects: O,
    upstream: Option<TokioResolver>,
    forwards: tokio::sync::Semaphore,
    metrics: Metrics,
}

/// What goes back.
struct Reply {
    code: ResponseCode,
    own: bool,
    answers: Vec<Record>,
    soa: Vec<Record>,
    additional: Vec<Record>,
}

impl Reply {
    fn code(code: ResponseCode) -> Self {
        Self {
            code,
            own: false,
            answers: Vec::new(),
            soa: Vec::new(),
            additional: Vec::new(),
        }
    }
}

impl<O: Objects> Handler<O> {
    /// A handler for the zone `domain`, such as `cluster.local`. Without `upstream`, other names are refused.
    pub fn new(domain: &str, objects: O, upstream: Option<TokioResolver>, metrics: Metrics) -> Self {
        let domain = domain.trim_end_matches('.').to_lowercase();
        Self {
            domain,
            objects,
            upstream,
            forwards: tokio::sync::Semaphore::new(FORWARDS),
            metrics,
        }
    }

    async fn reply(&self, name: &Name, kind: RecordType) -> Reply {
        let text = name.to_lowercase().to_ascii();
        match zone::answer(
            &self.domain,
            text.trim_end_matches('.'),
            zone_type(kind),
            &self.objects,
        ) {
            Answer::Found { records, additional } => {
                let mut answers = self.records(name, &records);
                if let [
                    zone::Record {
                        data: Data::Cname(target),
                        ..
                    },
                ] = records.as_slice()
                    && kind != RecordType::CNAME
                {
                    answers.extend(self.follow(target, kind).await);
                }
                let soa = if answers.is_empty() {
                    vec![self.soa()]
                } else {
                    Vec::new()
                };
                Reply {
                    own: true,
                    soa,
                    additional: self.records(name, &additional),
                    answers,
                    ..Reply::code(ResponseCode::NoError)
                }
            }
            Answer::NoName => Reply {
                own: true,
                soa: vec![self.soa()],
                ..Reply::code(ResponseCode::NXDomain)
            },
            Answer::NotOurs => self.forward(name, kind).await,
        }
    }

    /// The records of the name that an alias stands for; nothing when it can't be had.
    async fn follow(&self, target: &str, kind: RecordType) -> Vec<Record> {
        let Ok(target) = Name::from_ascii(format!("{target}.")) else {
            return Vec::new();
        };
        let text = target.to_lowercase().to_ascii();
        match zone::answer(
            &self.domain,
            text.trim_end_matches('.'),
            zone_type(kind),
            &self.objects,
        ) {
            Answer::Found { records, .. } => self.records(&target, &records),
            Answer::NoName => Vec::new(),
            Answer::NotOurs => self.forward(&target, kind).await.answers,
        }
    }

    async fn forward(&self, name: &Name, kind: RecordType) -> Reply {
        let Some(upstream) = &self.upstream else {
            return Reply::code(ResponseCode::Refused);
        };
        let Ok(_place) = self.forwards.try_acquire() else {
            return Reply::code(ResponseCode::ServFail);
        };
        match upstream.lookup(name.clone(), kind).await {
            Ok(found) => Reply {
                answers: found.answers().to_vec(),
                ..Reply::code(ResponseCode::NoError)
            },
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                let soa = none
                    .soa
                    .map(|soa| (*soa).into_record_of_rdata())
                    .into_iter()
                    .collect();
                Reply {
                    soa,
                    ..Reply::code(none.response_code)
                }
            }
            Err(error) => {
                tracing::debug!(%name, %error, "a forwarded question failed");
                Reply::code(ResponseCode::ServFail)
            }
        }
    }

    fn soa(&self) -> Record {
        let name = |text: String| Name::from_ascii(text).unwrap_or_else(|_| Name::root());
        let soa = SOA::new(
            name(format!("ns.dns.{}.", self.domain)),
            name(format!("hostmaster.{}.", self.domain)),
            1,
            7200,
            1800,
            86400,
            TTL,
        );
        Record::from_rdata(name(format!("{}.", self.domain)), TTL, RData::SOA(soa))
    }

    /// Records for the wire. The asker's own spelling of the name comes back, as DNS asks for.
    fn records(&self, asked: &Name, records: &[zone::Record]) -> Vec<Record> {
        let asked_text = asked.to_lowercase().to_ascii();
        let wire = |record: &zone::Record| {
            let name = if asked_text.trim_end_matches('.') == record.name {
                asked.clone()
            } else {
                Name::from_ascii(format!("{}.", record.name)).ok()?
            };
            let to_name = |text: &str| Name::from_ascii(format!("{text}.")).ok();
            let data = match &record.data {
                Data::Address(IpAddr::V4(ip)) => RData::A(A(*ip)),
                Data::Address(IpAddr::V6(ip)) => RData::AAAA(AAAA(*ip)),
                Data::Cname(target) => RData::CNAME(CNAME(to_name(target)?)),
                Data::Ptr(target) => RData::PTR(PTR(to_name(target)?)),
                Data::Ns(target) => RData::NS(NS(to_name(target)?)),
                Data::Srv { port, weight, target } => {
                    RData::SRV(SRV::new(0, *weight, *port, to_name(target)?))
                }
                Data::Txt(text) => RData::TXT(TXT::new(vec![text.clone()])),
                Data::Soa => return Some(self.soa()),
            };
            Some(Record::from_rdata(name, TTL, data))
        };
        records.iter().filter_map(wire).collect()
    }
}

fn zone_type(kind: RecordType) -> Type {
    match kind {
        RecordType::A => Type::A,
        RecordType::AAAA => Type::Aaaa,
        RecordType::SRV => Type::Srv,
        RecordType::PTR => Type::Ptr,
        RecordType::TXT => Type::Txt,
        RecordType::SOA => Type::Soa,
        RecordType::NS => Type::Ns,
        RecordType::CNAME => Type::Cname,
        RecordType::ANY => Type::Any,
        _ => Type::Other,
    }
}

#[async_trait::async_trait]
impl<O: Objects + Send + Sync + Unpin + 'static> RequestHandler for Handler<O> {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut responder: R,
    ) -> ResponseInfo {
        let began = Instant::now();
        let (reply, kind) = match request.request_info() {
            Ok(info) if info.metadata.op_code == OpCode::Query => {
                let kind = info.query.query_type();
                let name: Name = info.query.original().name().clone();
                (self.reply(&name, kind).await, kind.to_string())
            }
            Ok(_) => (Reply::code(ResponseCode::NotImp), "other".to_owned()),
            Err(_) => (Reply::code(ResponseCode::FormErr), "other".to_owned()),
        };
        self.metrics.requests.with_label_values(&[kind.as_str()]).inc();
        self.metrics
            .responses
            .with_label_values(&[&reply.code.to_string()])
            .inc();

        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.own;
        metadata.recursion_available = self.upstream.is_some();
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_PAYLOAD.min(request.max_payload()));
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if request.edns.is_some() {
            builder.edns(&edns);
        }
        let response = builder.build(
            metadata,
            &reply.answers,
            std::iter::empty(),
            &reply.soa,
            &reply.additional,
        );
        let sent = responder.send_response(response).await;
        self.metrics.duration.observe(began.elapsed().as_secs_f64());
        sent.unwrap_or_else(|error| {
            tracing::debug!(%error, "an answer could not be sent");
            let header = hickory_proto::op::Header {
                metadata: request.metadata,
                counts: Default::default(),
            };
            header.into()
        })
    }
}
