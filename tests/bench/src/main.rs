//! The tool behind the benchmark: request bodies, a stub of TensorFlow Serving, load generators, a
//! soak client, idle connections, a plain relay and a bare proxy.
mod args;
mod bare;
mod burn;
mod call;
mod clients;
mod compute;
mod curve;
mod hold;
mod load;
mod meaning;
mod payloads;
mod procfs;
mod proto;
mod relay;
mod rows;
mod soak;
mod stub;
mod summary;
mod threads;
mod timer;

use std::future::Future;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "proxy-bench COMMAND [options], all addresses HOST:PORT
  payloads DIR                 write the gRPC-framed request bodies
  stub    --listen A --control A [--check FILE]... [--frame BYTES] [--max-threads N] [--service-us N] [--slow-us N]
          [--models N]
          [--curve MODEL,sum|max,RUN_US,ROW_US,WORKERS[,POOL]]... [--burn THREADS,CALL_US,ROW_US]
          [--tensorflow LIBRARY --saved-model NAME,FOLDER,INPUT,OUTPUT,DIMS...]
  load    --target A --body FILE [--expect FILE | --save FILE] [--conns 4] [--streams 16] [--rate R]
          [--warmup S] [--seconds S] [--requests N] [--pid NAME=P,P]...
  clients --target A --group NAME:KEY=VALUE,...... [--warmup S] [--seconds S] [--requests N] [--bin S]
          [--reference A] [--input NAME] [--pid NAME=P,P]...
          KEY: model rows dims conns streams rate from until
  hold    --target A --body FILE [--expect FILE] [--conns 1]
          keeps the connections until standard input ends
  soak    --target A --expect FILE --rate R --seconds S --mix NAME,FILE,WEIGHT,HOW...
          HOW: ok refuse cancel-early cancel-late slow-read slow-write
  relay   --listen A --upstream A
  bare    --listen A --upstream A";

fn main() {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let rest: Vec<String> = words.collect();
    let result = match command.as_str() {
        "payloads" => payloads::run(&rest),
        "stub" => stub::run(&rest),
        "load" => load::run(&rest),
        "clients" => clients::run(&rest),
        "hold" => hold::run(&rest),
        "soak" => soak::run(&rest),
        "relay" => relay::run(&rest),
        "bare" => bare::run(&rest),
        _ => {
            eprintln!("{USAGE}");
            std::process::exit(2);
        }
    };
    match result {
        Ok(code) => std::process::exit(code),
        Err(e) => {
            eprintln!("proxy-bench {command}: {e}");
            std::process::exit(2);
        }
    }
}

/// Runs a command on one thread, so that it uses at most one core.
fn on_this_thread<T>(work: impl Future<Output = T>) -> Outcome<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, work))
}
