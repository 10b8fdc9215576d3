//! A thousand reloads under load: no request fails, and none is served by a mix of two generations.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::harness::keyward::get;
use crate::harness::setup::{replace, write};
use crate::harness::{Actor, Setup, Upstream};

const RELOADED: &str = "reloaded";
const REFUSED: &str = "reload refused";

const RELOADS: usize = 1000;

/// One of two generations that have everything different: the route's role, the upstream, the names of the
/// identity headers, the key file, and in it the user and the role of one and the same key.
fn generation(name: &str, endpoint: &Upstream, number: usize) -> String {
    let url = endpoint.url();
    format!(
        "realm = \"test\"\n# {number}\n[server]\nlisten = [\"127.0.0.1:0\"]\nworkers = 2\n\
         [keys]\nstore = \"keys-{name}.toml\"\n\
         [identity]\nuser = \"x-{name}-user\"\nrole = \"x-{name}-role\"\nkey_id = \"x-{name}-key\"\n\
         [roles.{name}]\n[upstreams.{name}]\nendpoints = [\"{url}\"]\n\
         [[routes]]\npath = \"/{{*rest}}\"\nroles = [\"{name}\"]\n\
         [log]\naccess = \"logs/access.log\"\nformat = \"json\"\n"
    )
}

/// Answers whether all of a request is of the generation called `name`.
fn upstream_of(name: &'static str) -> Upstream {
    Upstream::unrecorded(move |connection| {
        while let Some(request) = connection.request()? {
            let user = request.fields(&format!("x-{name}-user"));
            let role = request.fields(&format!("x-{name}-role"));
            let id = request.fields(&format!("x-{name}-key"));
            let of_others = request.fields.iter().filter(|(field, _)| {
                let is_identity = field.starts_with("x-even-") || field.starts_with("x-odd-");
                is_identity && !field.starts_with(&format!("x-{name}-"))
            });
            let expected = format!("key_of_{name}");
            let is_whole =
                user == [name] && role == [name] && id == [expected] && of_others.count() == 0;
            let body = if is_whole { "whole".to_owned() } else { request.head.clone() };
            let length = body.len();
            connection
                .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"))?;
        }
        Ok(())
    })
}

#[test]
fn a_thousand_reloads_under_load_harm_no_request_and_mix_no_generations() {
    let (even, odd) = (upstream_of("even"), upstream_of("odd"));
    let setup = Setup::new(&even);
    let folder = setup.folder.path().to_owned();
    let mut key = String::new();
    for name in ["even", "odd"] {
        let mut actor = Actor::new(name, name).with_key("the-same-key-in-both");
        actor.id = format!("key_of_{name}");
        key = actor.header();
        write(&folder.join(format!("keys-{name}.toml")), &actor.entry());
    }
    let config = folder.join("keyward.toml");
    write(&config, &generation("even", &even, 0));
    let kw = setup.start_on("keyward.toml");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = kw.connect();
                    let mut count = 0_usize;
                    while !is_over.load(Ordering::Relaxed) {
                        client.send(get("/", &key));
                        let answer = client.answer();
                        let text = answer.text();
                        assert_eq!((answer.status(), text.as_str()), (200, "whole"));
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let mut reloads = 0;
        for number in 1..=RELOADS / 2 {
            let good = match number % 2 {
                0 => generation("even", &even, number),
                _ => generation("odd", &odd, number),
            };
            // Broken off at some place, as a half-written file is.
            let place = good.len() - 1 - number % 300;
            let before = kw.count_events(REFUSED);
            replace(&config, &format!("{}\n[unfinished", &good[..place]));
            kw.wait_for_another(REFUSED, before);
            let before = kw.count_events(RELOADED);
            replace(&config, &good);
            kw.wait_for_another(RELOADED, before);
            reloads += 2;
            if clients.iter().any(thread::ScopedJoinHandle::is_finished) {
                break;
            }
        }
        is_over.store(true, Ordering::Relaxed);
        let counts: Vec<_> =
            clients.into_iter().map(|client| client.join().expect("no request fails")).collect();
        assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
        assert_eq!(reloads, RELOADS);
    });
}
