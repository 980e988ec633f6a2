//! Entry of every request: answers catalogue reads, and passes everything else to the router.
//!
//! A read that need not wait is answered without a future of its own, a span or a layer.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::future::RouteFuture;
use bridge_runtime::fields;
use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CONNECTION, VARY};
use http::{HeaderValue, Request, Response, Version};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tower::Service as _;

use super::connection::connections::{ConnectionActivity, InFlight, UnansweredRequest};
use super::connection::greeting::REFUSED_PATH;
use super::connection::lines::Refusal;
use super::connection::streams::{DeliveryProgress, PiecewiseBody, Streams};
use super::problem::{Kind, Problem};
use super::reads::catalogue::{Catalogue, CataloguePath, READ_FIELDS, min_seq};
use super::request::id::{REQUEST_ID, name, request_id};
use super::state::Storefront;
use crate::metrics::Route;

/// Time after which a read may come again if the replica did not reach its position.
const BEHIND_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Services that answer one serving thread's connections.
#[derive(Clone)]
pub(super) struct Front {
    catalogue: Rc<Catalogue>,
    shared: Arc<Storefront>,
    router: Router,
    streams: Streams,
}

/// The service of one connection.
#[derive(Clone)]
pub(super) struct Service {
    front: Front,
    activity: Rc<ConnectionActivity>,
}

/// Body of a read or of the router's answer.
type FrontBody = Either<Full<Bytes>, Body>;

impl Front {
    pub(super) fn new(
        catalogue: Catalogue,
        shared: Arc<Storefront>,
        router: Router,
        streams: Streams,
    ) -> Self {
        Self { catalogue: Rc::new(catalogue), shared, router, streams }
    }

    /// Returns the service of a connection.
    pub(super) fn of(self, activity: Rc<ConnectionActivity>) -> Service {
        Service { front: self, activity }
    }

    /// Answers a read or returns a problem, and counts it.
    fn read(&self, request: &Request<Incoming>, place: &CataloguePath<'_>) -> Response<FrontBody> {
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
        let id = request_id(request.headers());
        let mut response = problem.respond(&id);
        name(&mut response, &id);
        response.headers_mut().insert(VARY, HeaderValue::from_static(READ_FIELDS));
        self.count(route, &response);
        response.map(Either::Right)
    }

    fn count<B>(&self, route: Route, response: &Response<B>) {
        self.shared.metrics.responses.of((route, response.status().into())).inc();
    }

    /// Waits until the replica reaches `seq`, then reads.
    async fn read_from(self, request: Request<Incoming>, route: Route, seq: u64) -> Response<FrontBody> {
        self.catalogue.reader().reach(seq, self.shared.min_seq_wait).await;
        match CataloguePath::parse(request.uri().path()).filter(|_| self.catalogue.has_reached(seq)) {
            Some(place) => self.read(&request, &place),
            None => {
                let detail = "it has not reached the position in `Bridge-Min-Seq`";
                let problem = Problem::new(Kind::ReplicaBehind, detail).retry_after(BEHIND_RETRY_AFTER);
                self.refuse(&request, route, problem)
            }
        }
    }
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<PiecewiseBody>;
    type Error = Infallible;
    type Future = WatchedAnswer;

    fn call(&self, request: Request<Incoming>) -> WatchedAnswer {
        let (taking, asked) = match request.version() {
            Version::HTTP_2 => (Some(self.front.streams.begin()), None),
            _ => (None, Some(self.activity.asked())),
        };
        WatchedAnswer { answering: self.answer(request), taking, _asked: asked }
    }
}

impl Service {
    fn answer(&self, request: Request<Incoming>) -> Answering {
        let Self { front, activity } = self;
        activity.get_on();
        let once = &[REQUEST_ID, AUTHORIZATION];
        if let Err(error) = fields::check(request.version(), request.uri(), request.headers(), once) {
            let problem = Problem::new(Kind::BadRequest, error.to_string());
            let mut response = front.refuse(&request, Route::Other, problem);
            // The sender of such a head may see another end of it than this agent does.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return Answering::Ready(Some(response));
        }
        let Some(place) = CataloguePath::parse(request.uri().path()) else {
            if request.uri().path() == REFUSED_PATH
                && let Some(why) = activity.answer_refused()
            {
                return Answering::Ready(Some(front.refuse(&request, Route::Other, problem_of(why))));
            }
            let answer = front.router.clone().call(request.map(|body| activity.upload(body)));
            return Answering::Routed { answer, _under_way: activity.request() };
        };
        match min_seq(request.headers()) {
            Ok(Some(seq)) if !front.catalogue.has_reached(seq) => {
                let route = place.route();
                let answer = Box::pin(front.clone().read_from(request, route, seq));
                Answering::Waiting { answer, _under_way: activity.request() }
            }
            Ok(_) => Answering::Ready(Some(front.read(&request, &place))),
            Err(problem) => Answering::Ready(Some(front.refuse(&request, place.route(), problem))),
        }
    }
}

/// Returns the problem for a request that is refused for its form.
fn problem_of(refusal: Refusal) -> Problem {
    let (kind, detail) = match refusal {
        Refusal::BareLineFeed => {
            (Kind::BadRequest, "a line of its head ends with LF alone; it must be CR LF")
        }
        Refusal::Length => {
            (Kind::BadRequest, "send one `Content-Length` in digits, or `Transfer-Encoding: chunked`")
        }
        Refusal::TransferCoding => {
            (Kind::TransferCoding, "send `Transfer-Encoding: chunked`, or a `Content-Length` instead")
        }
        Refusal::HeadTooLarge => (Kind::HeadTooLarge, "16 KiB and 64 fields are read at most"),
        Refusal::Form => {
            (Kind::BadRequest, "its method, its path, its version or a field is not in its form")
        }
    };
    Problem::new(kind, detail)
}

/// An answer on its way, with the watch of its delivery.
pub(super) struct WatchedAnswer {
    answering: Answering,
    taking: Option<Rc<DeliveryProgress>>,
    _asked: Option<UnansweredRequest>,
}

impl Future for WatchedAnswer {
    type Output = Result<Response<PiecewiseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answering).poll(cx));
        let taking = self.taking.take();
        Poll::Ready(answer.map(|answer| answer.map(|body| PiecewiseBody::of(body, taking))))
    }
}

/// State of an answer.
enum Answering {
    /// It is ready.
    Ready(Option<Response<FrontBody>>),
    /// It waits for the replica.
    Waiting { answer: Pin<Box<dyn Future<Output = Response<FrontBody>>>>, _under_way: InFlight },
    /// The router makes it.
    Routed { answer: RouteFuture<Infallible>, _under_way: InFlight },
}

impl Future for Answering {
    type Output = Result<Response<FrontBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Ready(response) => {
                response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)))
            }
            Self::Waiting { answer, .. } => answer.as_mut().poll(cx).map(Ok),
            Self::Routed { answer, .. } => {
                Pin::new(answer).poll(cx).map(|answered| answered.map(|response| response.map(Either::Right)))
            }
        }
    }
}
