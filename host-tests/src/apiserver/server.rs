//! What clients find: a thread with its own runtime that fails on demand, and can be killed. What it
//! answers comes from behind it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::Request as HttpRequest;
use axum::response::{IntoResponse, Response};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime;
use tokio::sync::oneshot;

use super::answer::Refusal;
use super::faults::Faults;
use super::real::forward::{Callers, forward};
use super::standin::StandIn;
use super::standin::request::{self, Request};
use super::{Backend, Error};
use crate::net::Netns;

/// The largest body that is read, in bytes; of an API server it is 3 MiB.
const MAX_BODY: usize = 3 << 20;

/// A server that runs or does not, at an address that stays its own.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    netns: Option<Netns>,
    /// Bound, and never listening: nobody else gets the port while the server is down.
    _reservation: Socket,
    running: Option<Running>,
}

/// What all connections of one life have in common.
struct Front {
    faults: Arc<Faults>,
    behind: Behind,
}

enum Behind {
    StandIn(Arc<StandIn>),
    Real(Callers),
}

#[derive(Debug)]
struct Running {
    /// Dropped to stop it.
    _stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Takes an address, and says what it became.
    pub(super) fn reserve(
        address: SocketAddr,
        netns: Option<Netns>,
    ) -> Result<(Self, SocketAddr), Error> {
        let reservation = within(netns.as_ref(), || bind(address))?;
        let failed = |source| failure(address, "binding", source);
        let reservation = reservation.map_err(failed)?;
        let bound = reservation.local_addr().map_err(failed)?;
        let address = bound.as_socket().unwrap_or(address);
        let server = Self {
            address,
            netns,
            _reservation: reservation,
            running: None,
        };
        Ok((server, address))
    }

    pub(super) fn start(&mut self, faults: &Arc<Faults>, backend: &Backend) -> Result<(), Error> {
        if self.running.is_some() {
            return Ok(());
        }
        let address = self.address;
        let failed = |step| move |source| failure(address, step, source);
        let listener =
            within(self.netns.as_ref(), || listen(address))?.map_err(failed("listening"))?;
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(failed("starting"))?;
        let behind = match backend {
            Backend::StandIn(it) => Behind::StandIn(Arc::clone(it)),
            Backend::Real(real) => {
                // Its connections end with this life.
                let _within = runtime.enter();
                Behind::Real(real.callers()?)
            }
        };
        let front = Front {
            faults: Arc::clone(faults),
            behind,
        };
        let router = Router::new().fallback(serve).with_state(Arc::new(front));
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                let serving = async {
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    axum::serve(listener, router).await
                };
                tokio::select! {
                    ended = serving => {
                        if let Err(error) = ended {
                            panic!("the API server on {address} ended: {error}");
                        }
                    }
                    // An error: the sender was dropped, and that is the signal.
                    _ = stopped => {}
                }
            });
            // Connections are tasks of the runtime and break off with it.
            runtime.shutdown_timeout(Duration::from_secs(5));
        });
        self.running = Some(Running {
            _stop: stop,
            thread,
        });
        Ok(())
    }

    pub(super) fn stop(&mut self) {
        if let Some(Running { _stop, thread }) = self.running.take() {
            drop(_stop);
            // It panicked, and has said so.
            let _ended = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(State(front): State<Arc<Front>>, request: HttpRequest<Body>) -> Response {
    front.faults.count();
    let delay = front.faults.delay();
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    if let Some(refusal) = front.faults.refusal(request.uri().path()) {
        return refusal.into_response();
    }
    if let Some(refusal) = front
        .faults
        .writing(request.method(), request.uri().path())
        .await
    {
        return refusal.into_response();
    }
    let (parts, body) = request.into_parts();
    let body = match to_bytes(body, MAX_BODY).await {
        Ok(body) => body,
        Err(error) => return Refusal::bad_request(error.to_string()).into_response(),
    };
    let request = Request {
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        body,
    };
    match &front.behind {
        Behind::StandIn(it) => {
            request::answer(it, &request).unwrap_or_else(IntoResponse::into_response)
        }
        Behind::Real(callers) => forward(callers, request, &front.faults).await,
    }
}

fn within<T: Send>(netns: Option<&Netns>, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    match netns {
        Some(netns) => Ok(netns.run(work)?),
        None => Ok(work()),
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bind(address)?;
    socket.listen(128)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn failure(address: SocketAddr, step: &'static str, source: io::Error) -> Error {
    Error::Server {
        address,
        step,
        source,
    }
}
