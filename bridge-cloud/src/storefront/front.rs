//! What every request meets first: reads of the catalogue are answered here, everything else goes to the router.
//!
//! A read that need not wait is answered without a future of its own, a span or a layer.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::future::RouteFuture;
use bridge_runtime::telemetry::metrics::Route;
use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Request, Response, Version};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::Service;
use tower::Service as _;

use super::catalogue::{Catalogue, Place, min_seq};
use super::problem::{Kind, Problem};
use super::{Storefront, router};

/// A read that waits for the replica in vain may come again after this.
const BEHIND_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The service of one serving thread's connections.
#[derive(Clone)]
pub(super) struct Front {
    catalogue: Rc<Catalogue>,
    shared: Arc<Storefront>,
    router: Router,
}

/// A read's body, or what the router has answered.
pub(super) type FrontBody = Either<Full<Bytes>, Body>;

impl Front {
    pub(super) fn new(catalogue: Catalogue, shared: Arc<Storefront>, router: Router) -> Self {
        Self { catalogue: Rc::new(catalogue), shared, router }
    }

    /// A read's answer, and a problem's, counted.
    fn read(&self, request: &Request<Incoming>, place: &Place<'_>) -> Response<FrontBody> {
        let is_served = |brand: &str| self.shared.brands.contains_key(brand);
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        match self.catalogue.read(place, method, uri, headers, is_served) {
            Ok(response) => {
                self.count(place.route(), &response);
                response.map(Either::Left)
            }
            Err(problem) => {
                let is_of_method = problem.kind() == Kind::MethodNotAllowed;
                let mut response = self.refuse(request, place.route(), problem);
                if is_of_method {
                    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                }
                response
            }
        }
    }

    fn refuse(&self, request: &Request<Incoming>, route: Route, problem: Problem) -> Response<FrontBody> {
        let id = router::request_id(request.headers());
        let mut response = problem.respond(&id);
        router::name(&mut response, &id);
        self.count(route, &response);
        response.map(Either::Right)
    }

    fn count<B>(&self, route: Route, response: &Response<B>) {
        self.shared.metrics.responses.of((route, response.status().into())).inc();
    }

    /// Waits for the replica to come to `seq`, then reads.
    async fn read_from(self, request: Request<Incoming>, route: Route, seq: u64) -> Response<FrontBody> {
        self.catalogue.reader().reach(seq, self.shared.min_seq_wait).await;
        match Place::parse(request.uri().path()).filter(|_| self.catalogue.has_reached(seq)) {
            Some(place) => self.read(&request, &place),
            None => {
                let detail = "it has not come to the position that `Bridge-Min-Seq` asks for";
                let problem = Problem::new(Kind::ReplicaBehind, detail).retry_after(BEHIND_RETRY_AFTER);
                self.refuse(&request, route, problem)
            }
        }
    }
}

impl Service<Request<Incoming>> for Front {
    type Response = Response<FrontBody>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        if let Err(problem) = check(&request) {
            let mut response = self.refuse(&request, Route::Other, problem);
            // Where its end is cannot be told any more.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return Answering::Ready(Some(response));
        }
        let Some(place) = Place::parse(request.uri().path()) else {
            return Answering::Routed(self.router.clone().call(request.map(Body::new)));
        };
        match min_seq(request.headers()) {
            Ok(Some(seq)) if !self.catalogue.has_reached(seq) => {
                let route = place.route();
                Answering::Waiting(Box::pin(self.clone().read_from(request, route, seq)))
            }
            Ok(_) => Answering::Ready(Some(self.read(&request, &place))),
            Err(problem) => Answering::Ready(Some(self.refuse(&request, place.route(), problem))),
        }
    }
}

/// What a request must be before anybody looks at its path: of one host (RFC 9112 section 3.2), and of one length (section
/// 6.1), since a second reader of the same bytes could choose the other.
fn check(request: &Request<Incoming>) -> Result<(), Problem> {
    let headers = request.headers();
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return Err(Problem::new(Kind::BadRequest, "it must have one `Host`"));
    }
    if headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING) {
        return Err(Problem::new(Kind::BadRequest, "it has both `Content-Length` and `Transfer-Encoding`"));
    }
    Ok(())
}

/// An answer on its way.
pub(super) enum Answering {
    /// It is here.
    Ready(Option<Response<FrontBody>>),
    /// It waits for the replica.
    Waiting(Pin<Box<dyn Future<Output = Response<FrontBody>>>>),
    /// The router makes it.
    Routed(RouteFuture<Infallible>),
}

impl Future for Answering {
    type Output = Result<Response<FrontBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Ready(response) => {
                response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)))
            }
            Self::Waiting(future) => future.as_mut().poll(cx).map(Ok),
            Self::Routed(future) => {
                Pin::new(future).poll(cx).map(|answered| answered.map(|response| response.map(Either::Right)))
            }
        }
    }
}
