use super::*;
use futures::FutureExt as _;
use tokio::task::unconstrained;

fn gate(total: u32) -> Arc<Fairness> {
    let fairness = Fairness::new(total, ServerMetrics::new().unwrap()).unwrap();
    let boxed = |list: Vec<rutter_api::Value>| list.into_iter().map(Arc::new).collect::<Vec<_>>();
    let (levels, schemas) = (
        rutter_fairness::objects::levels(),
        rutter_fairness::objects::schemas(),
    );
    fairness.adopt(config::digest(&boxed(levels), &boxed(schemas), total));
    fairness
}

fn user(name: &str, group: &str) -> UserInfo {
    UserInfo {
        name: name.to_owned(),
        groups: vec![group.to_owned()],
        ..UserInfo::default()
    }
}

fn get_pod() -> RequestInfo {
    RequestInfo {
        is_resource: true,
        verb: "get".to_owned(),
        version: "v1".to_owned(),
        resource: "pods".to_owned(),
        namespace: "a".to_owned(),
        ..RequestInfo::default()
    }
}

fn asked<'a>(user: &'a UserInfo, info: &'a RequestInfo) -> Asked<'a> {
    Asked {
        user,
        info,
        stored: None,
        limit: 0,
        patience: Duration::from_secs(5),
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_waits_and_others_come_through() {
    let fairness = gate(12);
    let (flooder, other) = (
        user("flooder", "system:authenticated"),
        user("other", "system:authenticated"),
    );
    let info = get_pod();
    let mut seats = Vec::new();
    let mut waiting = Vec::new();
    let (mut refused, mut classes) = (0, Vec::new());
    for _ in 0..2000 {
        let mut class = None;
        let (fairness, asked) = (fairness.clone(), asked(&flooder, &info));
        let mut entering = Box::pin(unconstrained(async move {
            (fairness.enter(asked, &mut class).await, class)
        }));
        match entering.as_mut().now_or_never() {
            Some((Ok(seat), class)) => {
                seats.push(seat);
                classes.extend(class);
            }
            Some((Err(error), _)) => {
                assert_eq!(error.code, 429);
                assert!(error.retry_after_seconds > 0);
                refused += 1;
            }
            None => waiting.push(entering),
        }
    }
    assert_eq!(classes[0].0.schema.name, "global-default");
    assert!(
        !seats.is_empty() && waiting.len() == 300,
        "six queues of fifty: {}",
        waiting.len()
    );
    assert!(refused > 0);
    let mut class = None;
    let mut single = Box::pin(unconstrained(fairness.enter(asked(&other, &info), &mut class)));
    assert!(single.as_mut().now_or_never().is_none(), "all seats are taken");
    seats.clear();
    let mut served = 0;
    loop {
        if let Some(entered) = single.as_mut().now_or_never() {
            assert!(entered.is_ok());
            break;
        }
        // Each of these gives its seat back at once.
        let next = waiting
            .iter_mut()
            .position(|entering| entering.as_mut().now_or_never().is_some());
        drop(waiting.swap_remove(next.expect("somebody has a seat")));
        served += 1;
        tokio::time::advance(Duration::from_millis(3)).await;
    }
    assert!(served <= 12, "{served} of the flood came first");
    let mut class = None;
    let admin = user("admin", "system:masters");
    assert!(
        fairness
            .enter(asked(&admin, &info), &mut class)
            .now_or_never()
            .is_some(),
        "exempt"
    );
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_sent_away_and_leaves_nothing_behind() {
    let fairness = gate(1);
    let user = user("jane", "system:authenticated");
    let info = get_pod();
    let mut class = None;
    let seat = fairness.enter(asked(&user, &info), &mut class).await.unwrap();
    let error = fairness
        .enter(asked(&user, &info), &mut class)
        .await
        .err()
        .unwrap();
    assert_eq!(
        (error.code, error.message.as_str()),
        (429, "Too many requests, please try again later.")
    );
    // A caller that goes away leaves its queue.
    let mut leaving = None;
    let gone = Box::pin(fairness.enter(asked(&user, &info), &mut leaving));
    assert!(tokio::time::timeout(Duration::from_secs(1), gone).await.is_err());
    drop(seat);
    let level = class.unwrap().0.level.clone();
    let set = level.set.lock();
    let totals = set.queues.totals();
    assert!(set.queues.is_idle());
    assert_eq!((totals.timed_out, totals.cancelled, totals.seats), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn idle_levels_lend_their_seats() {
    let fairness = gate(600);
    let user = user("jane", "system:serviceaccounts");
    let info = get_pod();
    let mut seats = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..600 {
        let (fairness, asked) = (fairness.clone(), asked(&user, &info));
        let mut class = None;
        let mut entering = Box::pin(unconstrained(
            async move { fairness.enter(asked, &mut class).await },
        ));
        match entering.as_mut().now_or_never() {
            Some(Ok(seat)) => seats.push(seat),
            Some(Err(_)) => {}
            None => waiting.push(entering),
        }
    }
    let before = seats.len();
    fairness.rebalance();
    for entering in &mut waiting {
        if let Some(Ok(seat)) = entering.as_mut().now_or_never() {
            seats.push(seat);
        }
    }
    assert!(seats.len() > before + 50, "{before} seats became {}", seats.len());
}
