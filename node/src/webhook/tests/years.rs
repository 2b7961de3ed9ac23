//! Clocks that differ, nodes that were away, and what callers meet at each step from one authority to the next.

use super::*;

impl World {
    /// Puts authorities into the state that were made at these times.
    async fn made_at(&self, times: &[OffsetDateTime]) {
        let made = times.iter().fold(Authorities::default(), |all, at| all.with_another(*at).unwrap());
        let view = self.metadata.local();
        let sealer = crate::sealed::Sealer::new(&self.cluster, view.cluster().unwrap().unwrap(), keep::NAME);
        let (base, sealed) = (self.row().map_or(0, |row| row.index), sealer.seal(&made.encode()).unwrap());
        let command = Command::PutSealed { name: keep::NAME.into(), base, ciphertext: sealed.into() };
        assert_eq!(self.metadata.propose("test", command).await.unwrap().outcome, Outcome::Done);
    }

    /// What `trow webhook ca` prints now.
    fn bundle(&self) -> String {
        self.trust().bundle(&self.metadata.local()).unwrap().pem
    }
}

fn count(bundle: &str) -> usize {
    CertificateDer::pem_slice_iter(bundle.as_bytes()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_wrong_clock_takes_no_caller_from_the_others() {
    for wrong in [day(-2), day(-200), day(-400), day(2), day(310), day(350), day(700)] {
        let world = World::born().await;
        let (mut right, mut astray) = (world.keeper(), world.keeper());
        right.look(day(0)).await.unwrap();
        let trusted = right.held.as_ref().unwrap().authorities.bundle(day(0));
        let leaf = presented(&right);
        for now in [day(0), day(1)] {
            astray.look(wrong).await.unwrap();
            right.look(now).await.unwrap();
            assert_eq!(presented(&right), leaf, "signed anew because of a clock at {wrong}");
            verify(&trusted, &leaf.clone().unwrap(), "n1", now).unwrap();
        }
        // Once its clock is right it is like the others, and the years go on as if nothing had been.
        astray.look(day(1)).await.unwrap();
        verify(&trusted, &presented(&astray).unwrap(), "n1", day(1)).unwrap();
        let mut bundles = vec![(day(-100), trusted)];
        for now in (1..=800).step_by(30).map(day) {
            right.look(now).await.unwrap();
            let (_, fetched) = bundles.iter().rfind(|(at, _)| now - *at >= Duration::days(59)).unwrap();
            verify(fetched, &presented(&right).unwrap(), "n1", now)
                .unwrap_or_else(|error| panic!("{error} at {now} after a clock at {wrong}"));
            bundles.push((now, right.held.as_ref().unwrap().authorities.bundle(now)));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_and_callers_whose_clocks_differ_by_less_than_a_day_trust_each_other() {
    let world = World::born().await;
    let hours = [0, -11, 11].map(Duration::hours);
    let mut keepers = hours.map(|_| world.keeper());
    for today in [0, 30, 61, 200, 275, 276, 334, 336, 364, 366].map(day) {
        for (keeper, skew) in keepers.iter_mut().zip(hours) {
            keeper.look(today + skew).await.unwrap();
        }
        for (keeper, skew) in keepers.iter().zip(hours) {
            let bundle = keepers[0].held.as_ref().unwrap().authorities.bundle(today);
            let leaf = presented(keeper).unwrap();
            for caller in hours {
                verify(&bundle, &leaf, "n1", today + caller)
                    .unwrap_or_else(|error| panic!("{error}: {today}, node {skew}, caller {caller}"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_renew_at_once_make_one_successor_and_one_that_was_away_follows() {
    let world = World::born().await;
    let (mut one, mut two, mut away) = (world.keeper(), world.keeper(), world.keeper());
    for keeper in [&mut one, &mut two, &mut away] {
        keeper.look(day(0)).await.unwrap();
    }
    let before = presented(&away).unwrap();
    let (first, second) = tokio::join!(one.look(day(276)), two.look(day(276)));
    first.unwrap();
    second.unwrap();
    one.look(day(276)).await.unwrap();
    let both = one.held.as_ref().unwrap().authorities.bundle(day(276));
    assert_eq!(count(&both), 2, "each made one");

    // Long after: what it presented has ended, which callers refuse, and at its next look it is as the others.
    one.look(day(340)).await.unwrap();
    assert!(verify(&both, &before, "n1", day(340)).is_err());
    away.look(day(340)).await.unwrap();
    for keeper in [&one, &away] {
        verify(&both, &presented(keeper).unwrap(), "n1", day(340)).unwrap();
    }
    let index = world.row().unwrap().index;
    // A process that starts has no leaf of before, and needs no other authority.
    let mut restarted = world.keeper();
    assert_eq!(presented(&restarted), None);
    restarted.look(day(340)).await.unwrap();
    verify(&both, &presented(&restarted).unwrap(), "n1", day(340)).unwrap();
    assert_eq!(world.row().unwrap().index, index);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_with_the_bundle_alone_are_answered_by_every_node_at_each_step() {
    let now = OffsetDateTime::now_utc();
    let made = |days: &[i64]| days.iter().map(|days| now - Duration::days(*days)).collect::<Vec<_>>();
    let world = World::born().await;
    world.made_at(&made(&[10])).await;
    let nodes = [world.serve(None, None, &[]).await, world.serve(None, None, &[]).await];
    let versions = [&rustls::version::TLS12, &rustls::version::TLS13];
    let asked = async |bundle: &str| {
        let mut answered = 0;
        for node in &nodes {
            for version in versions {
                let Ok(mut stream) = node.connect(bundle, None, &[version]).await else { continue };
                answered += usize::from(ask(&mut stream).await.is_ok());
            }
        }
        answered
    };
    let all = nodes.len() * versions.len();
    until("certificates", async || nodes.iter().all(|node| node.tls.has_looked())).await;
    let first = world.bundle();
    assert_eq!((count(&first), asked(&first).await), (1, all));

    // The successor is there and waits; then it signs; then it is the only one.
    for (days, printed, of_the_old) in [(&[300, 25][..], 2, all), (&[340, 65], 2, 0), (&[370, 95], 1, 0)] {
        world.made_at(&made(days)).await;
        let bundle = world.bundle();
        assert_eq!(count(&bundle), printed);
        until("new certificates", async || asked(&bundle).await == all).await;
        let old = bundle.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
        let of_the_first = if printed == 1 { &first } else { old };
        until("the right one to sign", async || asked(of_the_first).await == of_the_old).await;
    }
    assert_eq!(asked(&first).await, 0, "it was of another authority");
}
