//! Kills, and what comes back by itself.

use std::time::{Duration, Instant};

use authsome_testkit::{http_probe, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};

use crate::platform::{Platform, command_lines};

/// The process whose command line holds all of these.
fn pid(platform: &Platform, program: &str) -> i32 {
    let mine = platform.processes();
    let line = mine
        .iter()
        .filter(|line| !line.contains("guard"))
        .find(|line| line.contains(program))
        .unwrap_or_else(|| panic!("{program} is not among {mine:#?}"));
    line.split_whitespace().next().unwrap().parse().unwrap()
}

async fn users(platform: &Platform) -> Result<Value, String> {
    let request = platform.edge(Method::GET, platform.demo("applicationId"), "/users");
    let reply = request
        .header("x-api-key", platform.demo("secretKey"))
        .send()
        .await
        .map_err(|error| error.to_string())?;
    match reply.status().as_u16() {
        200 => reply.json().await.map_err(|error| error.to_string()),
        other => Err(format!("{other}")),
    }
}

#[tokio::test]
async fn a_killed_program_comes_back_and_so_do_the_instances_of_a_killed_provisioner() {
    let platform = Platform::start().await;
    let body = json!({ "email": "ada@example.com", "password": "correct horse battery" });
    let sign_up = platform.edge(Method::POST, platform.demo("applicationId"), "/v1/signup");
    let reply = sign_up
        .header("x-api-key", platform.demo("publicKey"))
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), 201);

    for (program, admin) in [
        ("config/provisioner.toml", "provisioner"),
        ("config/proxy.toml", "proxy"),
        ("config/control.toml", "control"),
    ] {
        let before = pid(&platform, program);
        kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
        let address = platform.demo["adminUrls"][admin]
            .as_str()
            .unwrap()
            .trim_start_matches("http://");
        let again = async || {
            if kill(Pid::from_raw(before), None).is_ok() {
                return Err("the killed one is still there".to_owned());
            }
            http_probe::ok(address, "/readyz").await
        };
        wait_for(format!("{program} to run again"), Duration::from_mins(1), again)
            .await
            .unwrap();
        let served = wait_for("users through the edge", Duration::from_mins(1), async || {
            users(&platform).await
        })
        .await;
        match served {
            Ok(listed) => assert_eq!(listed["total"], 1, "after a kill of {admin}"),
            Err(error) => panic!("after a kill of {admin}: {error}\n{}", platform.logs()),
        }
        assert!(
            platform.said().contains("starting it again"),
            "the person at the terminal is told"
        );
    }
}

#[tokio::test]
async fn a_killed_server_comes_back_with_its_data() {
    let platform = Platform::start().await;
    for server in ["redis-server", "nats-server", "postgres -D"] {
        let port = |url: &str| url.rsplit_once(':').unwrap().1.split('/').next().unwrap().to_owned();
        // Redis shows a title of its own, with its address, instead of its arguments.
        let mark = match server {
            "redis-server" => format!("127.0.0.1:{}", port(platform.demo("redisUrl"))),
            "nats-server" => platform.state("nats").display().to_string(),
            _ => format!("-p {}", port(platform.demo("databaseUrl"))),
        };
        let running = command_lines();
        let line = running
            .iter()
            .find(|line| line.contains(server) && line.contains(&mark) && !line.contains("guard"));
        let line = line.unwrap_or_else(|| panic!("{server} with {mark} is not in {running:#?}"));
        let pid: i32 = line.split_whitespace().next().unwrap().parse().unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        let gone = async || kill(Pid::from_raw(pid), None).is_err().then_some(());
        wait_for("the killed server to go", Duration::from_secs(10), gone)
            .await
            .unwrap();
        let served = wait_for("users through the edge", Duration::from_secs(90), async || {
            users(&platform).await
        })
        .await;
        if let Err(error) = served {
            panic!("after a kill of {server}: {error}\n{}", platform.logs());
        }
    }
}

#[tokio::test]
async fn a_killed_platform_leaves_no_process_behind_and_starts_again_with_its_data() {
    let mut platform = Platform::start().await;
    assert!(platform.processes().len() > 6, "{:#?}", platform.processes());
    let before = platform.demo.clone();
    platform.kill().await;
    // At once, while the guards are still stopping the old processes.
    let start = Instant::now();
    platform.up().await;
    assert_eq!(
        platform.demo,
        before,
        "same keys, ports and passwords, {:?} after the kill",
        start.elapsed()
    );
    assert_eq!(users(&platform).await.unwrap()["total"], 0);

    platform.kill().await;
    platform.until_gone(Duration::from_mins(1)).await;
    let ports = ["databaseUrl", "redisUrl", "natsUrl", "edgeUrl", "controlUrl"].map(|field| {
        let url = platform.demo(field);
        let authority = url.split_once("://").unwrap().1.split('/').next().unwrap();
        authority.rsplit_once(':').unwrap().1.parse::<u16>().unwrap()
    });
    for port in ports {
        let free = async || authsome_testkit::port::is_free(port).then_some(());
        wait_for(format!("port {port} to be free"), Duration::from_secs(20), free)
            .await
            .unwrap();
    }
}
