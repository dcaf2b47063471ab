//! May a failed attempt be followed by another?
//!
//! A pure decision, apart from the budget that pays for it. A request that cannot have reached an instance may be sent to
//! another, whatever it asks for. One that may have reached it is repeated only if repeating changes nothing: its method is
//! idempotent (RFC 9110, 9.2.2) and its whole body is still here. Nothing is repeated once the client has seen a part of the
//! answer, nor after the instance had the whole of its time.

/// How often a request is tried, the first time included.
pub const TRIES: usize = 3;

/// Where on its way an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// There was no connection: nothing was sent.
    Connect,
    /// The connection broke before the first byte of the answer.
    Broken {
        /// It came out of the pool, so the instance may have closed it before the request came.
        reused: bool,
        /// The very first write failed, so the instance has read nothing.
        unsent: bool,
    },
    /// The instance did not answer in time, or not as HTTP.
    Answer,
}

/// What counts for the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// Where it failed.
    pub stage: Stage,
    /// May the method be repeated (RFC 9110, 9.2.2)?
    pub idempotent: bool,
    /// Is all of the body that was read still here?
    pub replayable: bool,
    /// Has a head been passed on to the client?
    pub answered: bool,
    /// Attempts so far, this one included.
    pub tries: usize,
}

/// Where the next attempt goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// To an endpoint that was not tried yet, if there is one.
    Elsewhere,
    /// To the same one over a connection of its own: only the pooled one was at fault.
    Fresh,
}

/// Where the next attempt would go, if there may be one.
pub const fn next(failed: &Failed) -> Option<Next> {
    if failed.answered || failed.tries >= TRIES {
        return None;
    }
    let repeatable = failed.idempotent && failed.replayable;
    match failed.stage {
        Stage::Connect => Some(Next::Elsewhere),
        Stage::Broken { reused, unsent } if repeatable || (unsent && failed.replayable) => {
            Some(if reused { Next::Fresh } else { Next::Elsewhere })
        }
        Stage::Broken { .. } | Stage::Answer => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGES: [Stage; 6] = [
        Stage::Connect,
        Stage::Broken {
            reused: false,
            unsent: false,
        },
        Stage::Broken {
            reused: false,
            unsent: true,
        },
        Stage::Broken {
            reused: true,
            unsent: false,
        },
        Stage::Broken {
            reused: true,
            unsent: true,
        },
        Stage::Answer,
    ];

    fn all() -> impl Iterator<Item = Failed> {
        let flags = [false, true];
        STAGES.into_iter().flat_map(move |stage| {
            flags.into_iter().flat_map(move |idempotent| {
                flags.into_iter().flat_map(move |replayable| {
                    flags.into_iter().flat_map(move |answered| {
                        (1..=TRIES + 1).map(move |tries| Failed {
                            stage,
                            idempotent,
                            replayable,
                            answered,
                            tries,
                        })
                    })
                })
            })
        })
    }

    #[test]
    fn nothing_is_repeated_after_a_head_was_passed_on_or_too_often() {
        for failed in all().filter(|failed| failed.answered || failed.tries >= TRIES) {
            assert_eq!(next(&failed), None, "{failed:?}");
        }
    }

    #[test]
    fn what_may_have_reached_an_instance_is_repeated_only_if_that_changes_nothing() {
        let reached = |stage| !matches!(stage, Stage::Connect | Stage::Broken { unsent: true, .. });
        for failed in all().filter(|failed| reached(failed.stage)) {
            assert!(
                next(&failed).is_none() || (failed.idempotent && failed.replayable),
                "{failed:?}"
            );
        }
    }

    #[test]
    fn a_body_that_is_gone_is_never_sent_again() {
        for failed in all().filter(|failed| !failed.replayable && failed.stage != Stage::Connect) {
            assert_eq!(next(&failed), None, "{failed:?}");
        }
    }

    #[test]
    fn the_whole_table() {
        for failed in all().filter(|failed| !failed.answered && failed.tries < TRIES) {
            let expected = match failed.stage {
                Stage::Connect => Some(Next::Elsewhere),
                Stage::Broken { reused, unsent } if failed.replayable && (failed.idempotent || unsent) => {
                    Some(if reused { Next::Fresh } else { Next::Elsewhere })
                }
                _ => None,
            };
            assert_eq!(next(&failed), expected, "{failed:?}");
        }
    }
}
