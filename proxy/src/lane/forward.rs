//! An admitted request: attempts, the exchange with the instance, and its answer on the way to the client.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Buf;
use pingora::server::ShutdownWatch;
use pingora::{Error, ErrorType, Result};
use tokio::net::TcpStream;

use super::answer::{End, write_head, write_interim};
use super::connection::Connection;
use super::desk::Desk;
use super::flow::{Flow, Patience, send};
use super::lines::HeadLines;
use super::pool::Owner;
use super::reply::{self, Ending, Reply};
use super::{Job, Lane, question};
use crate::answer;
use crate::ctx::{Ctx, Forwarding};
use crate::edge::Edge;
use crate::filter::headers;
use crate::http1::body::{Body, Length};
use crate::upstream::{Call, Prepared, Replay, dial};

/// A piece of a body up to this length is copied behind what is sent before it, so that both take one system call.
const COPIED: usize = 16 * 1024;

impl Lane {
    /// Forwards the request, and answers in the place of an instance that cannot.
    pub(super) async fn forward(&self, job: &mut Job<'_>, stopping: &ShutdownWatch) {
        let Err(error) = self.attempts(job, stopping).await else {
            return job.drain().await;
        };
        let refusal = self
            .edge
            .failed(&error, &mut job.ctx)
            .filter(|_| job.said.status.is_none());
        job.closes = true;
        if let Some(refusal) = refusal {
            self.refuse(job, refusal, answer::Connection::Close).await;
        }
    }

    async fn attempts(&self, job: &mut Job<'_>, stopping: &ShutdownWatch) -> Result<()> {
        Self::write_request(job)?;
        let upstreams = &*self.edge.upstreams;
        loop {
            let Some(forward) = &mut job.ctx.forward else {
                return Err(Error::new(ErrorType::InternalError));
            };
            // An endpoint there was when the request was let through; it is gone since, or its time is.
            let now = Instant::now();
            let call = forward
                .next_call(upstreams, now)
                .ok_or_else(|| Error::new_up(ErrorType::ConnectNoRoute))?;
            let app = Arc::clone(&forward.admission.app);
            let prepared = app.prepared.get().ok_or_else(|| Error::new(ErrorType::InternalError))?;
            job.ctx.timeline.connecting(call.address, now);
            let owner = self.owner(&call, prepared);
            let pooled = if call.fresh { None } else { self.pool.take(&owner, now) };
            let is_reused = pooled.is_some();
            let connected = match pooled {
                Some(connection) => Ok(connection),
                // Boxed: it is seldom needed, and large.
                None => Box::pin(self.connect(&call, prepared)).await,
            };
            let replay = |job: &Job<'_>| Replay {
                idempotent: job.chosen.method.is_idempotent(),
                replayable: true,
                answered: job.said.something,
            };
            let mut connection = match connected {
                Ok(connection) => connection,
                Err(error) => {
                    self.edge.metrics.connect_failures.inc();
                    let replay = replay(job);
                    if !job.forwarding()?.not_connected(upstreams, &error, replay) {
                        return Err(error.into_up());
                    }
                    self.edge.metrics.connect_retries.inc();
                    continue;
                }
            };
            // A connection that was just made took a time that is not the answer's.
            let began = is_reused.then_some(now);
            match self.exchange(job, &mut connection, (&call, began), stopping).await {
                Ok(is_reusable) => {
                    let ended = Instant::now();
                    job.ended = job.client.is_body_done().then_some(ended);
                    if is_reusable && !call.fresh {
                        self.pool.put(owner, connection, ended);
                    }
                    return Ok(());
                }
                Err(error) => {
                    let replay = replay(job);
                    if !job.forwarding()?.broken(upstreams, &error, is_reused, replay) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The head for the instance, and what is here of the body behind it.
    fn write_request(job: &mut Job<'_>) -> Result<()> {
        let desk = &mut *job.desk;
        let target =
            Edge::to_instance(&mut desk.request, &job.ctx).ok_or_else(|| Error::new(ErrorType::InternalError))?;
        let out = &mut desk.out;
        out.clear();
        out.extend_from_slice(job.chosen.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        desk.request.write(out);
        out.extend_from_slice(b"\r\n");
        job.body_bytes += job.client.take_body(out);
        Ok(())
    }

    fn owner(&self, call: &Call, prepared: &Prepared) -> Owner {
        let name = prepared.server_name.as_ref().filter(|name| !name.is_empty());
        Owner {
            group_key: prepared.group_key,
            address: call.address,
            tls: name.map(|name| (Arc::clone(name), Arc::clone(&self.edge.upstreams.tls()))),
        }
    }

    async fn connect(&self, call: &Call, prepared: &Prepared) -> Result<Connection> {
        let upstreams = &*self.edge.upstreams;
        if prepared.server_name.is_some() {
            let peer = call.peer(upstreams, prepared);
            return self.secure.new_stream(&peer).await.map(Connection::Tls);
        }
        let stream: TcpStream = dial(call.address, upstreams.settings().timeouts.connect).await?;
        // Only a socket that is gone already refuses; using it says so.
        let _ = stream.set_nodelay(true);
        Ok(Connection::Plain(stream))
    }

    /// One attempt over a connection, which is ready since `began`. Can that be used again?
    async fn exchange(
        &self,
        job: &mut Job<'_>,
        connection: &mut Connection,
        (call, began): (&Call, Option<Instant>),
        stopping: &ShutdownWatch,
    ) -> Result<bool> {
        let timeouts = &self.edge.upstreams.settings().timeouts;
        let patience = Patience {
            first_byte: timeouts.first_byte.min(call.left),
            read: timeouts.read.min(call.left),
            write: timeouts.write,
            client_read: self.edge.limits.client_read,
        };
        let is_head = job.is_head();
        let Job {
            client,
            desk,
            alarm,
            ctx,
            chosen,
            body_bytes,
            closes,
            said,
            ..
        } = job;
        let Desk {
            request,
            reply: lines,
            out,
            input,
            answer,
        } = &mut **desk;
        let flow = Flow::new(client, connection, alarm, (out, input), body_bytes, (patience, began));
        let mut passage = Passage {
            flow,
            answer,
            said,
            limit: self.edge.limits.client_write,
        };
        let reply = loop {
            let read = if passage.flow.input.is_empty() {
                None
            } else {
                reply::read(passage.flow.input, is_head, lines)
                    .map_err(|_| Error::new_up(ErrorType::InvalidHTTPHeader))?
            };
            match read {
                Some(reply) if reply.status >= 200 => break reply,
                // Passed on, it would turn the client's connection into a tunnel that nobody asked for.
                Some(Reply { status: 101, .. }) => return Err(Error::new_up(ErrorType::InvalidHTTPHeader)),
                Some(interim) => {
                    passage.flow.input.advance(interim.length);
                    headers::identify(lines, &self.edge.identity(ctx));
                    passage.say_interim(&interim, lines).await?;
                }
                None => {
                    let more = passage.flow.more().await;
                    if let (true, Some(forward)) = (passage.flow.has_begun(), &mut ctx.forward) {
                        forward.way.head_is_sent();
                    }
                    if !more? {
                        return Err(Error::new_up(ErrorType::ConnectionClosed));
                    }
                }
            }
        };
        passage.flow.input.advance(reply.length);
        passage.flow.answer_began();
        let status = reply.status;
        if let Some(forward) = &mut ctx.forward {
            forward.answered(&self.edge.upstreams, status);
            forward.body_bytes = *passage.flow.body_bytes;
        }
        let question = question(chosen, request, None);
        let now = Instant::now();
        if self.edge.answer_begins(&question, status, lines, ctx, now).is_err() {
            return Err(Error::new(ErrorType::HTTPStatus(503)));
        }
        if let Some(unsettled) = &mut ctx.unsettled {
            unsettled.status = Some(status);
        }
        self.edge.to_client(&question, status, lines, ctx);
        // Also where draining began after the request was read, and where its body was not waited for.
        *closes |= self.edge.probes.is_draining() || *stopping.borrow() || !passage.flow.client.is_body_done();
        let framing = match reply.body {
            Ending::Length(_) if !reply.is_chunked => "",
            Ending::Length(_) | Ending::Chunked | Ending::Close => "transfer-encoding: chunked\r\n",
        };
        passage.answer.clear();
        let end = End {
            framing,
            unix_ms: ctx.unix_ms_at(now),
            closes: *closes,
        };
        write_head(passage.answer, status, lines.at(reply.reason), lines, &end);
        passage.said.head = passage.answer.len() as u64;
        passage.said.next = Some(status);
        match reply.body {
            Ending::Length(length) => self.pass_length(&mut passage, length, ctx).await?,
            Ending::Chunked => self.pass_chunks(&mut passage, ctx).await?,
            Ending::Close => self.pass_all(&mut passage, ctx).await?,
        }
        Ok(!reply.is_last && passage.flow.input.is_empty() && passage.flow.is_sent())
    }

    async fn pass_length(&self, passage: &mut Passage<'_>, length: u64, ctx: &mut Ctx) -> Result<()> {
        let mut left = length;
        loop {
            let here = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(passage.flow.input.len());
            passage.say_with(here, ctx).await?;
            left -= here as u64;
            if left == 0 {
                return Ok(());
            }
            if !self.more(passage, ctx).await? {
                return Err(Error::new_up(ErrorType::ConnectionClosed));
            }
        }
    }

    /// Chunks are written anew: extensions and trailers are the connection's own.
    async fn pass_chunks(&self, passage: &mut Passage<'_>, ctx: &mut Ctx) -> Result<()> {
        let mut body = Body::new(Length::Chunked);
        loop {
            loop {
                let (framing, data) = body
                    .part(passage.flow.input)
                    .map_err(|_| Error::new_up(ErrorType::InvalidHTTPHeader))?;
                passage.flow.input.advance(framing);
                if data == 0 {
                    break;
                }
                passage.add_chunk(data);
            }
            if body.is_done() {
                passage.answer.extend_from_slice(LAST_CHUNK);
                return passage.say(ctx).await;
            }
            passage.say(ctx).await?;
            if !self.more(passage, ctx).await? {
                return Err(Error::new_up(ErrorType::ConnectionClosed));
            }
        }
    }

    /// To the end of the connection.
    async fn pass_all(&self, passage: &mut Passage<'_>, ctx: &mut Ctx) -> Result<()> {
        loop {
            let here = passage.flow.input.len();
            if here > 0 {
                passage.add_chunk(here);
            }
            passage.say(ctx).await?;
            if !self.more(passage, ctx).await? {
                passage.answer.extend_from_slice(LAST_CHUNK);
                return passage.say(ctx).await;
            }
        }
    }

    async fn more(&self, passage: &mut Passage<'_>, ctx: &Ctx) -> Result<bool> {
        let is_overdue = |forward: &Forwarding| forward.way.is_overdue(&self.edge.upstreams);
        if ctx.forward.as_ref().is_some_and(is_overdue) {
            return Err(Error::new_up(ErrorType::ReadTimedout));
        }
        passage.flow.more().await
    }
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What the client was told so far.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The status of the answer.
    pub(super) status: Option<u16>,
    /// Head and body, without what marks its chunks.
    pub(super) bytes: u64,
    /// Anything at all.
    pub(super) something: bool,
    /// The status that is about to be said, and the bytes of its head.
    next: Option<u16>,
    head: u64,
}

/// The answer on its way from the instance to the client.
struct Passage<'a> {
    flow: Flow<'a>,
    /// What is to be sent next.
    answer: &'a mut Vec<u8>,
    said: &'a mut Said,
    limit: Duration,
}

impl Passage<'_> {
    async fn say_interim(&mut self, interim: &Reply, lines: &HeadLines) -> Result<()> {
        self.answer.clear();
        write_interim(self.answer, interim, lines);
        self.said.something = true;
        send(self.flow.client, self.flow.alarm, self.limit, self.answer).await
    }

    /// Sends what was gathered.
    async fn say(&mut self, ctx: &mut Ctx) -> Result<()> {
        if !self.answer.is_empty() {
            self.said.something = true;
            send(self.flow.client, self.flow.alarm, self.limit, self.answer).await?;
            self.answer.clear();
            self.said(ctx);
        }
        Ok(())
    }

    /// Sends what was gathered, and so many bytes from the instance behind it.
    async fn say_with(&mut self, bytes: usize, ctx: &mut Ctx) -> Result<()> {
        if self.answer.is_empty() || bytes > COPIED {
            self.say(ctx).await?;
            if bytes > 0 {
                send(self.flow.client, self.flow.alarm, self.limit, &self.flow.input[..bytes]).await?;
            }
        } else {
            self.answer.extend_from_slice(&self.flow.input[..bytes]);
            self.say(ctx).await?;
        }
        self.flow.input.advance(bytes);
        self.said.bytes += bytes as u64;
        self.said(ctx);
        Ok(())
    }

    fn add_chunk(&mut self, bytes: usize) {
        // Writing to a `Vec` cannot fail.
        let _ = write!(self.answer, "{bytes:x}\r\n");
        self.answer.extend_from_slice(&self.flow.input[..bytes]);
        self.answer.extend_from_slice(b"\r\n");
        self.flow.input.advance(bytes);
        self.said.bytes += bytes as u64;
    }

    fn said(&mut self, ctx: &mut Ctx) {
        if let Some(status) = self.said.next.take() {
            self.said.status = Some(status);
            self.said.bytes += self.said.head;
        }
        if let Some(unsettled) = &mut ctx.unsettled {
            unsettled.bytes_out = self.said.bytes;
        }
    }
}
