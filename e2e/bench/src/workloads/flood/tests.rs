use super::super::tests::{answering, bench, sizes};
use super::*;
use crate::report::{Report, Row};
use http::{Request, Response};
use std::sync::Mutex;
use tokio::sync::Semaphore;

/// What a server that works answers to the flood and to the single user.
fn works(request: &Request<()>) -> Response<String> {
    let marks = match (request.method().as_str(), request.uri().query()) {
        ("GET", Some(query)) if query.contains("limit=50") => LIMIT,
        ("GET", None) if request.uri().path().ends_with("/pods") => sizes().pods,
        _ => 0,
    };
    let status = match request.method().as_str() {
        "POST" => 201,
        _ => 200,
    };
    Response::builder()
        .status(status)
        .body(format!("{} ", MARK).repeat(marks))
        .unwrap()
}

fn refused(wait: Option<&str>) -> Response<String> {
    let mut builder = Response::builder().status(429);
    if let Some(wait) = wait {
        builder = builder.header("retry-after", wait);
    }
    builder.body(String::new()).unwrap()
}

fn list(bench: &Bench) -> Step {
    Step {
        call: bench.get(pods_path("")),
        status: 200,
        objects: Some(sizes().pods as u64),
    }
}

/// Floods with three clients until the server has answered so often.
async fn flood_until(bench: &Arc<Bench>, answered: &Semaphore, times: u32) -> Record {
    let wires = vec![bench.wires().remove(0); 3];
    let single = async {
        drop(answered.acquire_many(times).await.unwrap());
        Record::default()
    };
    flood(bench, &wires, &bench.dialer, single).await.flood
}

#[tokio::test]
async fn lists_creates_and_deletes_add_up() {
    let answered = Arc::new(Semaphore::new(0));
    let names = Arc::new(Mutex::new(Vec::new()));
    let bench = answering({
        let (answered, names) = (answered.clone(), names.clone());
        move |request| {
            answered.add_permits(1);
            if request.method() == Method::DELETE {
                names.lock().unwrap().push(request.uri().path().to_owned());
            }
            Some(works(request))
        }
    })
    .await;
    let record = flood_until(&bench, &answered, 300).await;
    assert_eq!(record.errors(), 0, "{:?}", record.reasons());
    // What was answered when the flood ended may not have been seen.
    assert!(record.count() >= 290, "{}", record.count());
    let number = |what: &str| -> u64 {
        let at = record.note.find(what).unwrap();
        let before = record.note[..at].trim_end();
        before.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(
        number("lists") + number("creates") + number("deletes"),
        record.count()
    );
    assert!(number("lists") >= number("creates") && number("creates") >= number("deletes"));
    let mut names = names.lock().unwrap().clone();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all, "no name is used twice");
}

#[tokio::test]
async fn answers_429_are_counted_apart_and_short_lists_are_errors() {
    let answered = Arc::new(Semaphore::new(0));
    let bench = answering({
        let answered = answered.clone();
        move |request| {
            answered.add_permits(1);
            Some(match request.method().as_str() {
                "GET" => Response::new(MARK.to_owned()),
                _ => refused(None),
            })
        }
    })
    .await;
    let record = flood_until(&bench, &answered, 300).await;
    assert_eq!(record.count(), 0);
    assert!(record.refused > 100, "{}", record.refused);
    assert_eq!(record.reasons().len(), 1, "{:?}", record.reasons());
    assert_eq!(record.reasons()[0].0, "1 objects where 50 were expected");
}

#[tokio::test(start_paused = true)]
async fn who_is_told_when_to_come_again_comes_then_and_gives_up_in_the_end() {
    let bench = answering(|_| Some(refused(Some("2")))).await;
    let wire = bench.wires().remove(0);
    let began = Instant::now();
    let mut times = 0;
    let outcome = insist(&wire, &list(&bench), &AtomicU64::new(0), || times += 1).await;
    assert_eq!(outcome, Outcome::Refused(Some(Duration::from_secs(2))));
    assert_eq!((times, began.elapsed().as_secs()), (RETRIES + 1, 20));
}

#[tokio::test(start_paused = true)]
async fn who_is_not_told_when_to_come_again_does_not() {
    let bench = answering(|_| Some(refused(None))).await;
    let wire = bench.wires().remove(0);
    let mut times = 0;
    let outcome = insist(&wire, &list(&bench), &AtomicU64::new(0), || times += 1).await;
    assert_eq!((outcome, times), (Outcome::Refused(None), 1));
}

#[tokio::test(start_paused = true)]
async fn the_wait_after_a_429_is_part_of_the_single_users_latency() {
    let first = Mutex::new(true);
    let bench = answering(move |request| match std::mem::take(&mut *first.lock().unwrap()) {
        true => Some(refused(Some("3"))),
        false => Some(works(request)),
    })
    .await;
    let wire = bench.wires().remove(0);
    let mut record = single(&bench, &wire, Duration::from_secs(1)).await;
    assert_eq!((record.errors(), record.refused), (0, 1));
    assert_eq!(record.percentiles([1.0])[0].round(), 3000.0);
    assert!(record.note.contains("get 3"), "{}", record.note);
}

#[tokio::test(start_paused = true)]
async fn the_single_user_ends_its_turn() {
    let bench = answering(|request| Some(works(request))).await;
    let wire = bench.wires().remove(0);
    // A turn is five requests, 20 ms apart; the tenth begins before the second is over.
    let record = single(&bench, &wire, Duration::from_millis(950)).await;
    assert_eq!(
        (record.count(), record.errors()),
        (50, 0),
        "{:?}",
        record.reasons()
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_reported_as_failing() {
    let bench = answering(|_| None).await;
    let wire = bench.wires().remove(0);
    let timed = single(&bench, &wire, Duration::from_secs(1));
    let flooded = flood(&bench, std::slice::from_ref(&wire), &bench.dialer, timed).await;
    let single = Row::new("single", flooded.single, Duration::from_secs(1));
    let flood = Row::new("flood", flooded.flood, Duration::from_secs(1));
    assert_eq!(single.errors.iter().map(|(_, times)| times).sum::<u64>(), 5);
    assert!(
        single.errors[0].0.contains("no answer in time"),
        "{:?}",
        single.errors
    );
    let mut report = Report::default();
    report.add("silent", vec![flood, single]);
    let error = report.verdict().unwrap_err().to_string();
    assert!(error.contains("silent: flood with"), "{error}");
    assert!(error.contains("silent: single with 5 errors"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_is_reported_as_failing_to_the_single_user() {
    let bench = bench(500, "{}").await;
    let wire = bench.wires().remove(0);
    let record = single(&bench, &wire, Duration::from_millis(50)).await;
    assert_eq!((record.count(), record.errors()), (0, 5));
    assert!(
        record
            .reasons()
            .iter()
            .any(|(why, _)| why == "get: status 500 where 200 was expected")
    );
}
