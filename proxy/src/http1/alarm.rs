//! One timer for all the deadlines of a connection, over all its requests.
//!
//! Nearly every wait ends long before its deadline. The timer is therefore set once and left alone while deadlines move away:
//! when it fires too early it is set again. What a request pays is a comparison.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::time::{Instant, Sleep, sleep_until};

/// The timer.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Armed>);

#[derive(Debug)]
struct Armed {
    timer: Pin<Box<Sleep>>,
    /// The task that it wakes.
    task: Waker,
}

impl Alarm {
    /// Ready once `deadline` has passed; wakes the task by then.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if let Some(Armed { timer, task }) = &self.0
            && timer.deadline() <= deadline
            && !timer.is_elapsed()
            && task.will_wake(cx.waker())
        {
            // It wakes this task, and not too late.
            return Poll::Pending;
        }
        let Armed { timer, task } = self.0.get_or_insert_with(|| Armed {
            timer: Box::pin(sleep_until(deadline)),
            task: cx.waker().clone(),
        });
        task.clone_from(cx.waker());
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_alarm_goes_off_at_the_deadline_however_it_moved() {
        let mut alarm = Alarm::default();
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let none = poll_fn(|cx| Poll::Ready(alarm.poll(cx, at(10)))).await;
        assert!(none.is_pending());
        poll_fn(|cx| alarm.poll(cx, at(20))).await;
        assert_eq!(Instant::now(), at(20));
        let none = poll_fn(|cx| Poll::Ready(alarm.poll(cx, at(100)))).await;
        assert!(none.is_pending());
        poll_fn(|cx| alarm.poll(cx, at(30))).await;
        assert_eq!(Instant::now(), at(30));
        poll_fn(|cx| alarm.poll(cx, at(5))).await;
        assert_eq!(Instant::now(), at(30), "a deadline in the past is over at once");
    }
}
