//! Heads for clients, and the answers that the edge gives by itself.

use std::time::Instant;

use http::StatusCode;
use tokio::io::AsyncReadExt;

use super::lines::HeadLines;
use super::reply::Reply;
use super::{Job, Lane, flow};
use crate::answer::{self, Connection, DRAIN_TIME};
use crate::error::Refusal;
use crate::http1::date;

impl Lane {
    /// Answers by itself.
    pub(super) async fn refuse(&self, job: &mut Job<'_>, refusal: Refusal, connection: Connection) {
        job.ctx.refusal = Some(refusal);
        self.edge.metrics.refused(refusal);
        let lines = &mut job.desk.reply;
        lines.begin(b"");
        let body = answer::of_refusal(lines, refusal, &self.edge.identity(&job.ctx));
        answer::of_json(lines, body.len());
        self.answer(job, with_reason(refusal.status()), body.as_bytes(), connection)
            .await;
    }

    /// Tells a browser what it may send.
    pub(super) async fn preflight(&self, job: &mut Job<'_>) {
        let desk = &mut *job.desk;
        desk.reply.begin(b"");
        answer::of_preflight(&mut desk.reply, &desk.request, &self.edge.identity(&job.ctx));
        self.answer(job, with_reason(204), b"", Connection::Keep).await;
    }

    /// Sends the head whose lines are on the desk. What is left of the request's body is read, so that the next head can be
    /// found behind it.
    pub(super) async fn answer(
        &self,
        job: &mut Job<'_>,
        (status, reason): (u16, &str),
        body: &[u8],
        connection: Connection,
    ) {
        job.closes |= connection == Connection::Close;
        job.desk.answer.clear();
        let out = &mut job.desk.answer;
        let end = End {
            framing: "",
            unix_ms: job.ctx.unix_ms_at(Instant::now()),
            closes: job.closes,
        };
        write_head(out, status, reason.as_bytes(), &job.desk.reply, &end);
        if job.chosen.method != http::Method::HEAD {
            out.extend_from_slice(body);
        }
        let limit = self.edge.limits.client_write;
        match flow::send(job.client, job.alarm, limit, out).await {
            Ok(()) => {
                job.said.status = Some(status);
                job.said.bytes += job.desk.answer.len() as u64;
                job.drain().await;
            }
            Err(error) => {
                // The client left meanwhile; there is nobody to tell.
                job.ctx.failure.get_or_insert(error.etype().as_str());
                job.closes = true;
            }
        }
    }
}

fn with_reason(status: u16) -> (u16, &'static str) {
    let code = StatusCode::from_u16(status).ok();
    (
        status,
        code.and_then(|code| code.canonical_reason()).unwrap_or_default(),
    )
}

impl Job<'_> {
    /// Reads what is left of the body, which is short: a close with unread bytes resets the connection, and the reset can
    /// overtake the answer.
    pub(super) async fn drain(&mut self) {
        if self.client.is_body_done() {
            return;
        }
        let read = async {
            let mut space = vec![0; 4096];
            while !self.client.is_body_done() {
                match self.client.read(&mut space).await {
                    Ok(read @ 1..) => self.body_bytes += read as u64,
                    Ok(0) | Err(_) => return false,
                }
            }
            true
        };
        if !Box::pin(tokio::time::timeout(DRAIN_TIME, read)).await.unwrap_or(false) {
            self.closes = true;
        }
    }
}

/// Writes a head that another one follows (1xx).
pub(super) fn write_interim(out: &mut Vec<u8>, interim: &Reply, lines: &HeadLines) {
    write_status(out, interim.status);
    out.extend_from_slice(lines.at(interim.reason));
    out.extend_from_slice(b"\r\n");
    lines.write(out);
    out.extend_from_slice(b"\r\n");
}

fn write_status(out: &mut Vec<u8>, status: u16) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
}

/// What a head ends with.
pub(super) struct End {
    /// Lines that say where the body ends, if those of the head do not.
    pub(super) framing: &'static str,
    /// When the answer began, milliseconds since the Unix epoch.
    pub(super) unix_ms: i64,
    /// The connection is closed behind it.
    pub(super) closes: bool,
}

/// Writes a head as clients read it.
pub(super) fn write_head(out: &mut Vec<u8>, status: u16, reason: &[u8], lines: &HeadLines, end: &End) {
    write_status(out, status);
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
    lines.write(out);
    out.extend_from_slice(end.framing.as_bytes());
    out.extend_from_slice(b"date: ");
    date::append(end.unix_ms, out);
    out.extend_from_slice(if end.closes {
        b"\r\nconnection: close\r\n\r\n"
    } else {
        b"\r\nconnection: keep-alive\r\n\r\n"
    });
}
