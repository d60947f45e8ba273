//! `tikv_python` 0.1.1, a client in pure Python, as it comes from PyPI.

use std::process::Command;

use super::{cluster, skip};

/// Names a Python that has the client: the gate makes one.
const PYTHON: &str = "TINYKV_TEST_PYTHON";

#[test]
fn its_calls_work_over_many_regions() {
    let python = std::env::var(PYTHON).unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&python)
        .args(["-c", "from tikv import RawClient, AsyncRawClient"])
        .output();
    match probe {
        Ok(output) if output.status.success() => {}
        Ok(_) => {
            let how = format!(
                "{python} has no tikv_python; python3 -m venv DIR && DIR/bin/pip install \
                 tikv_python==0.1.1, and {PYTHON}=DIR/bin/python"
            );
            return skip("tikv_python", &how);
        }
        Err(error) => return skip("tikv_python", &format!("{python}: {error}")),
    }
    let cluster = cluster();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/tikv_python.py");
    let output = Command::new(&python)
        .arg(script)
        .args(cluster.placements())
        .output()
        .expect("it ran a moment ago");
    assert!(
        output.status.success(),
        "{}{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        cluster.logs()
    );
}
