//! A whole run: start everything, measure in rounds, report.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use authsome_testkit::GuardedChild;

use crate::contenders::{self, Contender, Running, Surroundings};
use crate::cores::{self, Cores};
use crate::curves;
use crate::fleet::Fleet;
use crate::generator::{self, Traffic};
use crate::instructions;
use crate::measure::{self, Sample};
use crate::options::Options;
use crate::plan::{Part, Plan};
use crate::platform::Platform;
use crate::report::{Conditions, Latency, Report, Row, Table};
use crate::scenario::{REQUESTS, STREAMS, Scenario, Work};
use crate::soak;

/// Without a rate of its own: this part of what the bare Pingora can do, so that nobody is near his end.
const RATE: f64 = 0.4;

/// Runs the suite and prints what it found.
pub(crate) fn run(options: &Options) -> ExitCode {
    if options.elsewhere {
        return ExitCode::SUCCESS;
    }
    cores::open_many_files();
    let cores = Cores::divide(options.threads);
    if cores.pinned {
        cores::stay_on(&cores.generator);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let bench = runtime.block_on(Bench::start(&options.plan, &cores, directory.path()));
    let mut report = bench.measure(&options.plan, &cores);
    if options.plan.has(Part::Instructions) {
        report.instructions = runtime.block_on(instructions::count(
            &bench.around(&cores, directory.path()),
            &options.plan,
            &options.out,
        ));
    }
    let upstream = runtime.block_on(bench.end());
    if options.plan.has(Part::Curves) {
        let more = curves::of_tables(&options.plan, &cores, upstream.1, directory.path());
        report.curves.extend(runtime.block_on(more));
    }
    drop(upstream);
    println!("{}", report.text());
    report.write(&options.out).unwrap();
    println!("{0}/report.html and {0}/report.json", options.out.display());
    ExitCode::SUCCESS
}

/// Everything that runs.
struct Bench {
    platform: Platform,
    fleet: Fleet,
    running: Vec<Running>,
    missing: Vec<String>,
    upstream: GuardedChild,
    listen: SocketAddr,
}

impl Bench {
    async fn start(plan: &Plan, cores: &Cores, directory: &Path) -> Self {
        let listen = contenders::free();
        let (upstream, direct) = contenders::start_upstream(cores, listen, directory).await;
        let fleet = Fleet::new(plan.keys, plan.apps, listen.port());
        let platform = Platform::start(&fleet).await;
        let around = Surroundings {
            cores,
            fleet: &fleet,
            platform: &platform,
            upstream: listen,
            directory,
        };
        let mut running = vec![direct];
        let mut missing = Vec::new();
        // Instructions are counted in processes of their own.
        let any = plan.parts.iter().any(|part| *part != Part::Instructions);
        for contender in Contender::ALL
            .into_iter()
            .filter(|contender| any && *contender != Contender::Direct)
        {
            println!("load: starting {}", contender.name());
            match contender.start(&around).await {
                Ok(contender) => running.push(contender),
                Err(why) => missing.push(format!("{} ({why})", contender.name())),
            }
        }
        Self {
            platform,
            fleet,
            running,
            missing,
            upstream,
            listen,
        }
    }

    fn measure(&self, plan: &Plan, cores: &Cores) -> Report {
        let mut load = vec![busy()];
        self.warm(plan);
        let mut scenarios = Vec::new();
        if plan.has(Part::Requests) {
            scenarios.extend(REQUESTS.iter().map(|scenario| self.scenario(scenario, plan, cores)));
        }
        let latencies = if plan.has(Part::Latency) {
            self.latencies(plan, cores)
        } else {
            Vec::new()
        };
        if plan.has(Part::Streams) {
            scenarios.extend(STREAMS.iter().map(|scenario| self.scenario(scenario, plan, cores)));
        }
        let both: Vec<&Running> = [Contender::Bare, Contender::Edge]
            .into_iter()
            .filter_map(|c| self.of(c))
            .collect();
        let soak = if plan.has(Part::Soak) {
            both.iter()
                .flat_map(|running| soak::soak(running, &self.fleet, plan, cores))
                .collect()
        } else {
            Vec::new()
        };
        let curves = if plan.has(Part::Curves) {
            curves::of_running(&both, &self.fleet, plan, cores)
        } else {
            Vec::new()
        };
        load.push(busy());
        Report {
            conditions: self.conditions(plan, cores, load),
            scenarios,
            latencies,
            soak,
            curves,
            instructions: Vec::new(),
        }
    }

    /// Every key once at every contender, so that nobody asks a store while it is measured.
    fn warm(&self, plan: &Plan) {
        let Traffic::Http { requests, expected } = Work::Get.traffic(&self.fleet, plan) else {
            unreachable!("a GET is a request");
        };
        for running in &self.running {
            generator::once(running.address, &requests, expected);
        }
    }

    fn of(&self, contender: Contender) -> Option<&Running> {
        self.running.iter().find(|running| running.contender == contender)
    }

    fn bare(&self) -> &Running {
        // It is this executable, so it is always there.
        self.of(Contender::Bare).unwrap()
    }

    /// In turn, round after round.
    fn scenario(&self, scenario: &Scenario, plan: &Plan, cores: &Cores) -> Table {
        println!("load: {} (load {})", scenario.title, busy());
        let taking_part: Vec<&Running> = scenario
            .contenders
            .iter()
            .filter_map(|contender| self.of(*contender))
            .collect();
        let (traffic, against) = (
            scenario.work.traffic(&self.fleet, plan),
            scenario.against.traffic(&self.fleet, plan),
        );
        let mut own: Vec<Vec<Sample>> = vec![Vec::new(); taking_part.len()];
        let mut bare = Vec::new();
        let extra = !scenario.contenders.contains(&Contender::Bare);
        for _ in 0..plan.rounds {
            if extra {
                bare.push(measure::flat_out(
                    cores,
                    self.bare(),
                    &against,
                    scenario.against.connections(plan),
                    plan,
                ));
            }
            for (running, samples) in taking_part.iter().zip(&mut own) {
                samples.push(measure::flat_out(
                    cores,
                    running,
                    &traffic,
                    scenario.work.connections(plan),
                    plan,
                ));
            }
        }
        if let Some(at) = taking_part
            .iter()
            .position(|running| running.contender == Contender::Bare)
        {
            bare.clone_from(&own[at]);
        }
        let row = |contender: Contender, samples, baseline| {
            let target = scenario
                .targets
                .iter()
                .find(|(of, _)| *of == contender)
                .map(|(_, target)| *target);
            Row::new((contender.name(), contender.does()), samples, &bare, baseline, target)
        };
        let mut rows = Vec::new();
        if extra {
            rows.push(row(Contender::Bare, bare.clone(), true));
        }
        for (running, samples) in taking_part.iter().zip(own) {
            rows.push(row(running.contender, samples, false));
        }
        let table = Table {
            name: scenario.name,
            title: scenario.title,
            rows,
        };
        // A run that is broken off has said what it found until then.
        println!("{}", table.text());
        table
    }

    fn latencies(&self, plan: &Plan, cores: &Cores) -> Vec<Latency> {
        let traffic = Work::Get.traffic(&self.fleet, plan);
        let rate = plan.rate.unwrap_or_else(|| {
            let bare = measure::flat_out(cores, self.bare(), &traffic, plan.connections, plan);
            (bare.per_second * RATE / 100.0).round() * 100.0
        });
        println!("load: latency at {rate} requests a second (load {})", busy());
        let mut found = vec![Vec::new(); self.running.len()];
        for _ in 0..plan.latency_rounds {
            for (running, found) in self.running.iter().zip(&mut found) {
                found.push(measure::at_rate(cores, running, &traffic, rate, plan));
            }
        }
        let names = self.running.iter().map(|running| running.contender.name());
        names
            .zip(found)
            .map(|(name, rounds)| Latency::new(name, rounds))
            .collect()
    }

    fn conditions(&self, plan: &Plan, cores: &Cores, load: Vec<String>) -> Conditions {
        Conditions {
            plan: plan.name,
            profile: profile(),
            processor: processor(),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            cores: format!(
                "{:?} contender, {:?} upstream, {:?} generator",
                cores.contender, cores.upstream, cores.generator
            ),
            pinned: cores.pinned,
            load,
            rounds: plan.rounds,
            window_seconds: plan.window.as_secs_f64(),
            connections: plan.connections,
            keys: self.fleet.keys.len(),
            applications: self.fleet.tenants().len(),
            edge_binary: contenders::edge_binary().map_or_else(
                || "the same code as authsome-proxy, built with the suite".to_owned(),
                |path| {
                    format!(
                        "{}, built apart from the bare Pingora: the ratios hold for the same profile only",
                        path.display()
                    )
                },
            ),
            missing: self.missing.clone(),
        }
    }

    fn around<'b>(&'b self, cores: &'b Cores, directory: &'b Path) -> Surroundings<'b> {
        Surroundings {
            cores,
            fleet: &self.fleet,
            platform: &self.platform,
            upstream: self.listen,
            directory,
        }
    }

    /// Ends all but the upstream, which others may ask yet.
    async fn end(self) -> (GuardedChild, u16) {
        futures::future::join_all(self.running.into_iter().map(Running::stop)).await;
        self.platform.stop().await;
        (self.upstream, self.listen.port())
    }
}

/// Processes that want to run, over the last minute.
pub(crate) fn busy() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

/// The folder below `target` that this executable was built in.
fn profile() -> String {
    let executable = std::env::current_exe().unwrap();
    let folder = executable.ancestors().nth(2).and_then(Path::file_name);
    folder.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name"));
    name.and_then(|line| line.split_once(':'))
        .map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}
