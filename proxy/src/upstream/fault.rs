//! What a failure on the way means to the client.

use pingora::{Error, ErrorSource, ErrorType};

use super::retry::Stage;
use crate::error::Refusal;
use crate::http1::BodyFault;

/// Whose failure it was; for metrics and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The client broke off or broke the protocol.
    Client,
    /// The instance, or the network to it.
    Instance,
    /// The edge itself.
    Edge,
}

/// Was it the edge itself that could not connect, for want of sockets or ports?
pub(super) fn is_ours(error: &Error) -> bool {
    matches!(
        error.etype(),
        ErrorType::InternalError | ErrorType::SocketError | ErrorType::BindError
    )
}

/// Where an attempt failed that had a connection; `None` if it was not the instance or the way to it. `unsent`: no part of the
/// body was asked for, so the head was not written whole if writing failed.
pub(super) fn stage_of(error: &Error, reused: bool, unsent: bool) -> Option<Stage> {
    if *error.esource() != ErrorSource::Upstream {
        return None;
    }
    Some(match error.etype() {
        ErrorType::WriteError => Stage::Broken { reused, unsent },
        ErrorType::ConnectionClosed | ErrorType::ReadError => Stage::Broken { reused, unsent: false },
        _ => Stage::Answer,
    })
}

/// Who failed, and what the client is told; `None` if it is no longer there to be told. `body`: why the client's connection
/// itself ended the reading of the request.
pub fn refusal_of(error: &Error, body: Option<BodyFault>) -> (Blame, Option<Refusal>) {
    match body {
        Some(BodyFault::Slow) => return (Blame::Client, Some(Refusal::RequestTimeout)),
        Some(BodyFault::Malformed) => return (Blame::Client, Some(Refusal::Protocol)),
        None => {}
    }
    match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(413)) => (Blame::Client, Some(Refusal::TooLarge)),
        // No room for another stream: of the clients' making.
        (_, ErrorType::HTTPStatus(503)) => (Blame::Client, Some(Refusal::TooManyStreams)),
        (
            ErrorSource::Upstream,
            ErrorType::ConnectTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
            | ErrorType::TLSHandshakeTimedout,
        ) => (Blame::Instance, Some(Refusal::GatewayTimeout)),
        (ErrorSource::Upstream, _) => (Blame::Instance, Some(Refusal::BadGateway)),
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => (Blame::Client, Some(Refusal::RequestTimeout)),
        (
            ErrorSource::Downstream,
            ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError | ErrorType::WriteTimedout,
        ) => (Blame::Client, None),
        (ErrorSource::Downstream, _) => (Blame::Client, Some(Refusal::Protocol)),
        (ErrorSource::Internal | ErrorSource::Unset, _) => (Blame::Edge, Some(Refusal::Internal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(source: ErrorSource, etype: ErrorType) -> (Blame, Option<u16>) {
        let mut error = Error::new(etype);
        error.esource = source;
        let (blame, refusal) = refusal_of(&error, None);
        (blame, refusal.map(Refusal::status))
    }

    #[test]
    fn only_what_failed_on_the_way_to_an_instance_can_be_repeated() {
        use ErrorSource::{Downstream, Internal, Upstream};
        let broken = |reused, unsent| Some(Stage::Broken { reused, unsent });
        for (source, etype, unsent, expected) in [
            (Upstream, ErrorType::WriteError, true, broken(true, true)),
            (Upstream, ErrorType::WriteError, false, broken(true, false)),
            (Upstream, ErrorType::ConnectionClosed, true, broken(true, false)),
            (Upstream, ErrorType::ReadError, true, broken(true, false)),
            (Upstream, ErrorType::ReadTimedout, true, Some(Stage::Answer)),
            (Upstream, ErrorType::InvalidHTTPHeader, true, Some(Stage::Answer)),
            (Downstream, ErrorType::ConnectionClosed, true, None),
            (Internal, ErrorType::WriteError, true, None),
        ] {
            let mut error = Error::new(etype.clone());
            error.esource = source.clone();
            assert_eq!(stage_of(&error, true, unsent), expected, "{source:?} {etype:?}");
        }
    }

    #[test]
    fn every_failure_has_its_status_and_its_culprit() {
        use ErrorSource::{Downstream, Internal, Unset, Upstream};
        for (source, etype, expected) in [
            (Upstream, ErrorType::ConnectRefused, (Blame::Instance, Some(502))),
            (Upstream, ErrorType::ConnectNoRoute, (Blame::Instance, Some(502))),
            (Upstream, ErrorType::ConnectTimedout, (Blame::Instance, Some(504))),
            (Upstream, ErrorType::ReadTimedout, (Blame::Instance, Some(504))),
            (Upstream, ErrorType::ConnectionClosed, (Blame::Instance, Some(502))),
            (Upstream, ErrorType::InvalidHTTPHeader, (Blame::Instance, Some(502))),
            (Downstream, ErrorType::ConnectionClosed, (Blame::Client, None)),
            (Downstream, ErrorType::WriteError, (Blame::Client, None)),
            (Downstream, ErrorType::ReadTimedout, (Blame::Client, Some(408))),
            (Downstream, ErrorType::InvalidHTTPHeader, (Blame::Client, Some(400))),
            (Downstream, ErrorType::HTTPStatus(413), (Blame::Client, Some(413))),
            (Unset, ErrorType::HTTPStatus(503), (Blame::Client, Some(503))),
            (Internal, ErrorType::InternalError, (Blame::Edge, Some(500))),
            (Unset, ErrorType::UnknownError, (Blame::Edge, Some(500))),
        ] {
            assert_eq!(of(source.clone(), etype.clone()), expected, "{source:?} {etype:?}");
        }
    }

    #[test]
    fn a_body_that_could_not_be_read_is_the_clients_fault_whatever_failed_after_it() {
        let error = Error::new(ErrorType::WriteError);
        for (fault, status) in [(BodyFault::Slow, 408), (BodyFault::Malformed, 400)] {
            let (blame, refusal) = refusal_of(&error, Some(fault));
            assert_eq!((blame, refusal.map(Refusal::status)), (Blame::Client, Some(status)));
        }
    }
}
