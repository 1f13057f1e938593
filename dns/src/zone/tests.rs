use super::*;
use crate::objects::Port;

#[derive(Default)]
struct Fake {
    services: Vec<Service>,
    endpoints: Vec<(String, Endpoint)>,
}

impl Objects for Fake {
    fn has_namespace(&self, namespace: &str) -> bool {
        namespace == "shop"
    }
    fn service(&self, namespace: &str, name: &str) -> Option<Service> {
        self.services
            .iter()
            .find(|s| s.namespace == namespace && s.name == name)
            .cloned()
    }
    fn endpoints(&self, service: &Service) -> Vec<Endpoint> {
        self.endpoints
            .iter()
            .filter(|(name, _)| *name == service.name)
            .map(|(_, e)| e.clone())
            .collect()
    }
    fn service_of(&self, address: IpAddr) -> Option<(String, String)> {
        let found = self.services.iter().find(|s| s.cluster_ips.contains(&address))?;
        Some((found.namespace.clone(), found.name.clone()))
    }
    fn endpoints_of(&self, address: IpAddr) -> Vec<(String, String, Endpoint)> {
        let found = self.endpoints.iter().filter(|(_, e)| e.address == address);
        found
            .map(|(name, e)| ("shop".to_owned(), name.clone(), e.clone()))
            .collect()
    }
}

fn port(name: &str, port: u16) -> Port {
    Port {
        name: name.to_owned(),
        port,
        protocol: "TCP".to_owned(),
    }
}

fn shop() -> Fake {
    let service = |name: &str, ips: &[&str]| Service {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        cluster_ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        ports: vec![port("http", 80)],
        external_name: None,
    };
    let mut out = service("out", &[]);
    out.external_name = Some("example.test".to_owned());
    let endpoint = |hostname: Option<&str>, address: &str| Endpoint {
        hostname: hostname.map(str::to_owned),
        address: address.parse().unwrap(),
        ports: vec![port("http", 8080)],
    };
    Fake {
        services: vec![
            service("web", &["10.96.0.7", "fd00::7"]),
            service("db", &[]),
            service("none", &[]),
            out,
        ],
        endpoints: vec![
            ("db".to_owned(), endpoint(Some("db-0"), "10.244.0.5")),
            ("db".to_owned(), endpoint(None, "10.244.1.6")),
        ],
    }
}

fn ask(name: &str, kind: Type) -> String {
    match answer("cluster.local", name, kind, &shop()) {
        Answer::NoName => "no name".to_owned(),
        Answer::NotOurs => "not ours".to_owned(),
        Answer::Found { records, additional } => {
            let texts: Vec<_> = records
                .iter()
                .chain(&additional)
                .map(|r| match &r.data {
                    Data::Address(a) => a.to_string(),
                    Data::Cname(n) | Data::Ptr(n) | Data::Txt(n) | Data::Ns(n) => n.clone(),
                    Data::Srv { port, target, weight } => format!("{weight}:{port}:{target}"),
                    Data::Soa => "soa".to_owned(),
                })
                .collect();
            texts.join(" ")
        }
    }
}

#[test]
fn names_answer_as_the_specification_says() {
    use Type::{A, Aaaa, Any, Ptr, Soa, Srv, Txt};
    for (name, kind, want) in [
        ("web.shop.svc.cluster.local", A, "10.96.0.7"),
        ("web.shop.svc.cluster.local", Aaaa, "fd00::7"),
        ("web.shop.svc.cluster.local", Any, "10.96.0.7 fd00::7"),
        ("web.shop.svc.cluster.local", Txt, ""),
        ("web.shop.cluster.local", A, "no name"),
        ("nothing.shop.svc.cluster.local", A, "no name"),
        ("x.web.shop.svc.cluster.local", A, "no name"),
        (
            "_http._tcp.web.shop.svc.cluster.local",
            Srv,
            "100:80:web.shop.svc.cluster.local 10.96.0.7 fd00::7",
        ),
        ("_http._udp.web.shop.svc.cluster.local", Srv, "no name"),
        ("_http._tcp.web.shop.svc.cluster.local", A, ""),
        ("db.shop.svc.cluster.local", A, "10.244.0.5 10.244.1.6"),
        ("db-0.db.shop.svc.cluster.local", A, "10.244.0.5"),
        ("10-244-1-6.db.shop.svc.cluster.local", A, "10.244.1.6"),
        ("db-1.db.shop.svc.cluster.local", A, "no name"),
        (
            "_http._tcp.db.shop.svc.cluster.local",
            Srv,
            "50:8080:10-244-1-6.db.shop.svc.cluster.local 50:8080:db-0.db.shop.svc.cluster.local 10.244.0.5 10.244.1.6",
        ),
        ("none.shop.svc.cluster.local", A, "no name"),
        ("out.shop.svc.cluster.local", A, "example.test"),
        ("10-1-2-3.shop.pod.cluster.local", A, "10.1.2.3"),
        ("10-1-2-3.elsewhere.pod.cluster.local", A, "no name"),
        ("word.shop.pod.cluster.local", A, "no name"),
        ("shop.svc.cluster.local", A, ""),
        ("svc.cluster.local", A, ""),
        ("elsewhere.svc.cluster.local", A, "no name"),
        ("dns-version.cluster.local", Txt, "1.1.0"),
        ("cluster.local", Soa, "soa"),
        ("7.0.96.10.in-addr.arpa", Ptr, "web.shop.svc.cluster.local"),
        ("5.0.244.10.in-addr.arpa", Ptr, "db-0.db.shop.svc.cluster.local"),
        (
            "6.1.244.10.in-addr.arpa",
            Ptr,
            "10-244-1-6.db.shop.svc.cluster.local",
        ),
        ("1.1.1.1.in-addr.arpa", Ptr, "not ours"),
        ("example.test", A, "not ours"),
        ("notcluster.local", A, "not ours"),
    ] {
        assert_eq!(ask(name, kind), want, "{name} {kind:?}");
    }
}

#[test]
fn reverse_names_of_both_families_are_read() {
    assert_eq!(
        reverse_address("4.3.2.1.in-addr.arpa"),
        Some("1.2.3.4".parse().unwrap())
    );
    assert_eq!(reverse_address("300.3.2.1.in-addr.arpa"), None);
    let name = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
    assert_eq!(reverse_address(name), Some("fd00::7".parse().unwrap()));
}
