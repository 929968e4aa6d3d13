//! Opens many connections, sends one Predict on each, and keeps them open until its input ends.
use crate::call::{self, Fault};
use crate::{Outcome, args::Args, on_this_thread};
use bytes::Bytes;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// Connections that are being opened at the same time.
const AT_ONCE: usize = 64;
/// How long one connection and its request may take.
const PATIENCE: Duration = Duration::from_secs(20);

struct Plan {
    target: String,
    body: Bytes,
    expect: Vec<u8>,
    left: Cell<usize>,
}

#[derive(Default)]
struct Held {
    /// Connections that are open now.
    open: Rc<Cell<usize>>,
    answered: Cell<usize>,
    faults: RefCell<BTreeMap<String, u64>>,
    /// A connection ends when its last handle is dropped.
    handles: RefCell<Vec<h2::client::SendRequest<Bytes>>>,
}

/// Prints one line when every connection has had its answer, and another one at the end.
pub fn run(words: &[String]) -> Outcome<i32> {
    let args = Args::parse(words, &["target", "body", "expect", "conns"])?;
    let conns = args.number("conns")?.unwrap_or(1);
    let plan = Rc::new(Plan {
        target: args.need("target")?.to_owned(),
        body: std::fs::read(args.need("body")?)?.into(),
        expect: args.get("expect").map(std::fs::read).transpose()?.unwrap_or_default(),
        left: Cell::new(conns),
    });
    on_this_thread(async {
        let held = Rc::new(Held::default());
        let lanes: Vec<_> = (0..AT_ONCE.min(conns))
            .map(|_| tokio::task::spawn_local(open_until_all_are(plan.clone(), held.clone())))
            .collect();
        for lane in lanes {
            lane.await?;
        }
        println!("{}", held.figures());
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
        // What the server closed in the meantime has been noticed once the tasks have run.
        tokio::task::yield_now().await;
        println!("{}", held.figures());
        Ok(i32::from(held.open.get() < conns || held.answered.get() < conns))
    })?
}

async fn open_until_all_are(plan: Rc<Plan>, held: Rc<Held>) {
    while let Some(rest) = plan.left.get().checked_sub(1) {
        plan.left.set(rest);
        let late = || Fault::Transport("no answer in time".to_owned());
        let result = tokio::time::timeout(PATIENCE, held.one(&plan)).await;
        match result.map_err(|_| late()).and_then(|done| done) {
            Ok(()) => held.answered.set(held.answered.get() + 1),
            Err(fault) => *held.faults.borrow_mut().entry(fault.to_string()).or_default() += 1,
        }
    }
}

impl Held {
    async fn one(&self, plan: &Plan) -> Result<(), Fault> {
        let (client, connection) = call::handshake(&plan.target, 4 << 20, true).await?;
        let open = self.open.clone();
        open.set(open.get() + 1);
        tokio::task::spawn_local(async move {
            // Its stream reports the error.
            let _ = connection.await;
            open.set(open.get() - 1);
        });
        self.handles.borrow_mut().push(client.clone());
        let head = call::head(&plan.target).map_err(|e| Fault::Transport(e.to_string()))?;
        call::predict(&client, &head, plan.body.clone(), &plan.expect).await
    }

    fn figures(&self) -> serde_json::Value {
        json!({"open": self.open.get(), "answered": self.answered.get(), "kinds": *self.faults.borrow()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A server that answers the first `serve` connections with a message, and closes the others.
    async fn server(listener: TcpListener, serve: usize, answer: Bytes) {
        for number in 0.. {
            let Ok((socket, _)) = listener.accept().await else { return };
            let answer = answer.clone();
            if number >= serve {
                continue;
            }
            tokio::task::spawn_local(async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let head = http::Response::builder().header("content-type", "application/grpc");
                    let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
                    stream.send_data(answer.clone(), false).unwrap();
                    let trailers = http::HeaderMap::from_iter([(
                        http::HeaderName::from_static("grpc-status"),
                        http::HeaderValue::from_static("0"),
                    )]);
                    stream.send_trailers(trailers).unwrap();
                }
            });
        }
    }

    #[test]
    fn a_connection_that_is_refused_is_not_counted_as_open() {
        let figures = on_this_thread(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let target = listener.local_addr().unwrap().to_string();
            let answer = Bytes::from(crate::payloads::answer());
            tokio::task::spawn_local(server(listener, 3, answer.clone()));
            let plan = Plan { target, body: answer.clone(), expect: answer.to_vec(), left: Cell::new(5) };
            let held = Rc::new(Held::default());
            open_until_all_are(Rc::new(plan), held.clone()).await;
            held.figures()
        });
        let figures = figures.unwrap();
        assert_eq!((&figures["open"], &figures["answered"]), (&json!(3), &json!(3)), "{figures}");
        assert_eq!(figures["kinds"].as_object().unwrap().values().filter_map(|n| n.as_u64()).sum::<u64>(), 2);
    }
}
