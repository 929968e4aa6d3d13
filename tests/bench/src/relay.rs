//! Copies bytes between two sockets without parsing HTTP: the minimum for a proxy in user space.
use crate::{Outcome, args::Args, on_this_thread};
use tokio::net::{TcpListener, TcpStream};

const BUFFER: usize = 64 * 1024;

pub fn run(words: &[String]) -> Outcome<i32> {
    let args = Args::parse(words, &["listen", "upstream"])?;
    let (listen, upstream) = (args.need("listen")?, args.need("upstream")?.to_owned());
    on_this_thread(async {
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (mut client, _) = listener.accept().await?;
            let upstream = upstream.clone();
            tokio::task::spawn_local(async move {
                let Ok(mut server) = TcpStream::connect(upstream).await else {
                    return;
                };
                if client.set_nodelay(true).is_ok() && server.set_nodelay(true).is_ok() {
                    // If one side fails, the pair ends; there is nobody to report it to.
                    let _ =
                        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER)
                            .await;
                }
            });
        }
    })?
}
