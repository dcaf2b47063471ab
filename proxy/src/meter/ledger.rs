//! Which cell counts for whom: segments of cells, and the hand-out of cells to applications' hours.
//!
//! The warm path touches a cell through a place that its [`Slot`](super::Slot) remembers. Everything else (a new hour, a new
//! application, freeing) happens under one lock. Segments are counter files; when no file has room and none can be made,
//! a segment in memory stands in, whose counts only a kill would lose.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use authsome_core::entropy::{self, Entropy};
use authsome_core::id::ApplicationId;
use uuid::Uuid;

use super::cell::Cell;
use super::file::{CounterFile, FileError};
use super::metrics::MeterMetrics;

/// 64 × 65,536 cells of the default size are 4 million application-hours waiting for confirmation.
const SEGMENTS_MAX: usize = 64;
/// Cells of a segment in memory.
const STAND_IN: u32 = 4096;

/// Where a cell is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) cell: u32,
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) writer: Uuid,
    cells: Cells,
    /// Cells below this have been used at some time.
    used: AtomicU32,
}

#[derive(Debug)]
enum Cells {
    File(CounterFile),
    Memory(Box<[Cell]>),
}

impl Segment {
    pub(super) fn cells(&self) -> &[Cell] {
        match &self.cells {
            Cells::File(file) => file.cells(),
            Cells::Memory(cells) => cells,
        }
    }

    /// The cells that may hold anything.
    pub(super) fn touched(&self) -> &[Cell] {
        let cells = self.cells();
        &cells[..cells.len().min(self.used.load(Ordering::Acquire) as usize)]
    }

    pub(super) fn is_on_disk(&self) -> bool {
        matches!(self.cells, Cells::File(_))
    }

    /// Deletes the file of a segment that holds nothing.
    pub(super) fn remove_file(&self) {
        if let Cells::File(file) = &self.cells {
            file.remove();
        }
    }
}

#[derive(Debug)]
pub(super) struct Ledger {
    segments: [OnceLock<Segment>; SEGMENTS_MAX],
    /// Hours up to this are over: no cell of them is counted in any more.
    closed: AtomicU32,
    book: Mutex<Book>,
    directory: PathBuf,
    capacity: u32,
    metrics: MeterMetrics,
}

#[derive(Debug, Default)]
struct Book {
    places: HashMap<(ApplicationId, u32), Place>,
    free: Vec<Place>,
    segments: u32,
}

impl Ledger {
    pub(super) fn new(directory: PathBuf, capacity: u32, metrics: MeterMetrics) -> Self {
        Self {
            segments: [const { OnceLock::new() }; SEGMENTS_MAX],
            closed: AtomicU32::new(0),
            book: Mutex::default(),
            directory,
            capacity,
            metrics,
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Each change of the book is one statement, so a panic elsewhere does not leave it half done.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cell(&self, place: Place) -> Option<&Cell> {
        self.segments
            .get(place.segment as usize)?
            .get()?
            .cells()
            .get(place.cell as usize)
    }

    /// May a cell of this hour still be counted in?
    pub(super) fn is_open(&self, hour: u32) -> bool {
        hour > self.closed.load(Ordering::Relaxed)
    }

    pub(super) fn closed(&self) -> u32 {
        self.closed.load(Ordering::Relaxed)
    }

    /// Declares the hours up to `hour` over. A request that is counted from now on counts in a later one.
    pub(super) fn close(&self, hour: u32) {
        let _book = self.book();
        self.closed.fetch_max(hour, Ordering::Relaxed);
    }

    /// The cell of an application's hour (or of the first hour that is open), claimed if need be. `None`: every segment is
    /// full and there may be no more.
    pub(super) fn place(&self, app: ApplicationId, hour: u32, entropy: &dyn Entropy) -> Option<(Place, u32)> {
        let mut book = self.book();
        let hour = hour.max(self.closed.load(Ordering::Relaxed).saturating_add(1));
        if let Some(place) = book.places.get(&(app, hour)) {
            return Some((*place, hour));
        }
        let place = self.vacant(&mut book, entropy)?;
        self.cell(place)?.claim(app, hour);
        book.places.insert((app, hour), place);
        Some((place, hour))
    }

    fn vacant(&self, book: &mut Book, entropy: &dyn Entropy) -> Option<Place> {
        if let Some(place) = book.free.pop() {
            return Some(place);
        }
        if let Some(place) = self.untouched(book) {
            return Some(place);
        }
        // The publisher adds files ahead of need, so this is a full or broken disk.
        let cells = (0..STAND_IN).map(|_| Cell::default()).collect();
        self.add(book, Uuid::from_bytes(entropy::bytes(entropy)), Cells::Memory(cells))?;
        tracing::error!("no counter file has room; usage is counted in memory until one has");
        self.untouched(book)
    }

    fn untouched(&self, book: &Book) -> Option<Place> {
        (0..book.segments).find_map(|index| {
            let segment = self.segments.get(index as usize)?.get()?;
            let cell = segment.used.load(Ordering::Relaxed);
            ((cell as usize) < segment.cells().len()).then(|| {
                segment.used.store(cell + 1, Ordering::Release);
                Place { segment: index, cell }
            })
        })
    }

    fn add(&self, book: &mut Book, writer: Uuid, cells: Cells) -> Option<()> {
        let on_disk = matches!(cells, Cells::File(_));
        let segment = Segment {
            writer,
            cells,
            used: AtomicU32::new(0),
        };
        self.segments.get(book.segments as usize)?.set(segment).ok()?;
        book.segments += 1;
        self.metrics.segment_added(on_disk);
        Some(())
    }

    /// Adds a counter file. Blocks on the disk.
    pub(super) fn extend(&self, entropy: &dyn Entropy) -> Result<(), FileError> {
        let writer = Uuid::from_bytes(entropy::bytes(entropy));
        let file = CounterFile::create(&self.directory, writer, self.capacity)?;
        // Without a free segment number the file is dropped again: nothing is in it.
        if self.add(&mut self.book(), writer, Cells::File(file)).is_none() {
            tracing::error!("no more counter files may be made");
        }
        Ok(())
    }

    /// Less than a quarter of a file's cells is free.
    pub(super) fn is_short(&self) -> bool {
        let book = self.book();
        let untouched: usize = self.numbered().map(|(_, s)| s.cells().len() - s.touched().len()).sum();
        (book.segments as usize) < SEGMENTS_MAX && untouched + book.free.len() < self.capacity as usize / 4
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().map_while(OnceLock::get)
    }

    pub(super) fn numbered(&self) -> impl Iterator<Item = (u32, &Segment)> {
        (0..).zip(self.segments())
    }

    /// Gives a cell back. Its application's hour must be closed, final and confirmed.
    pub(super) fn free(&self, place: Place) {
        let mut book = self.book();
        let Some(cell) = self.cell(place) else { return };
        if let Some(owner) = cell.owner() {
            book.places.remove(&owner);
            cell.free();
            book.free.push(place);
        }
    }

    pub(super) fn place_of(&self, app: ApplicationId, hour: u32) -> Option<Place> {
        self.book().places.get(&(app, hour)).copied()
    }

    pub(super) fn used(&self) -> usize {
        self.book().places.len()
    }
}
