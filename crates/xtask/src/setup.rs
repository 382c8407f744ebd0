//! What a machine needs before it can build, run and test: ONNX Runtime's shared library, a C++ compiler with CMake,
//! and the DICOM programs the tests talk to. Everything that is already there is left alone, at once.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{root, step};

/// ONNX Runtime comes as the shared library inside the PyPI wheel: no other package carries it, and one pinned file is
/// the same on every machine. A later release moves the version and all four digests together.
const ONNXRUNTIME: &str = "1.31.1";

/// dicom-rs's receiver, at the version whose figures are in `docs/BENCHMARKS.md`.
const DICOM_STORESCP: &str = "0.10.1";

struct Wheel {
    platform: &'static str,
    wheel_sha256: &'static str,
    library_sha256: &'static str,
}

fn wheel() -> Result<Wheel> {
    match env::consts::ARCH {
        "x86_64" => Ok(Wheel {
            platform: "manylinux_2_28_x86_64",
            wheel_sha256: "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f",
            library_sha256: "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3",
        }),
        "aarch64" => Ok(Wheel {
            platform: "manylinux_2_28_aarch64",
            wheel_sha256: "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
            library_sha256: "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467",
        }),
        other => bail!(
            "no pinned ONNX Runtime for {other}: build or download libonnxruntime.so {ONNXRUNTIME} for it and name it in \
             ORT_DYLIB_PATH"
        ),
    }
}

/// What `cargo build` and the daemon need.
///
/// # Errors
/// When something is missing and cannot be installed from here; the message says what to install.
pub(crate) fn build() -> Result<()> {
    install(&[
        Need { what: "cmake", package: "cmake", present: || on_path("cmake") },
        // Only recommended by cmake's package, and what it drives.
        Need { what: "make", package: "make", present: || on_path("make") },
        Need { what: "a C++ compiler", package: "g++", present: || on_path("c++") || on_path("g++") },
    ])?;
    onnx_runtime()
}

/// The programs the tests talk to, and the test runner.
///
/// # Errors
/// As [`build`].
pub(crate) fn peers() -> Result<()> {
    install(&[
        Need { what: "DCMTK", package: "dcmtk", present: || on_path("dsrdump") && on_path("storescu") },
        Need { what: "OpenSSL", package: "openssl", present: || on_path("openssl") },
        Need { what: "Orthanc", package: "orthanc", present: || on_path("Orthanc") },
        Need {
            what: "Orthanc's DICOMweb plugin",
            package: "orthanc-dicomweb",
            present: || Path::new("/usr/share/orthanc/plugins/libOrthancDicomWeb.so").exists(),
        },
        Need { what: "strace", package: "strace", present: || on_path("strace") },
        Need { what: "dicom3tools", package: "dicom3tools", present: || on_path("dciodvfy") && on_path("dcentvfy") },
        Need {
            what: "PixelMed",
            package: "libpixelmed-java",
            present: || Path::new("/usr/share/java/pixelmed.jar").exists(),
        },
        Need { what: "a Java runtime", package: "default-jre-headless", present: || on_path("java") },
        Need { what: "Python's venv", package: "python3-venv", present: || python_imports("ensurepip") },
    ])?;
    python_peers()?;
    test_runner()
}

/// OHIF as it is shipped, whose digest is that of the package's tarball in the registry.
const OHIF: &str = "3.13.2";
const OHIF_SHA256: &str = "b189d3963bfc58e9394a9db8c7be75d07beb029ec211dbb126d47b62969dd3f1";
const PUPPETEER_CORE: &str = "24.43.1";

/// The viewer that the reports are looked at with: OHIF in Chromium. Where it cannot be had, the tests with it are left out,
/// and a line says what to install.
pub(crate) fn viewer() {
    if let Err(error) = ohif() {
        step::announce(&format!("the tests in OHIF are left out: {error:#}"));
    }
}

fn ohif() -> Result<()> {
    install(&[
        Need { what: "Chromium", package: "chromium", present: || on_path("chromium") },
        Need { what: "Node.js", package: "nodejs", present: || on_path("node") },
        Need { what: "npm", package: "npm", present: || on_path("npm") },
    ])?;
    let dir = root().join("target/peers/ohif");
    let installed = dir.join("installed.txt");
    let wanted = format!("@ohif/app {OHIF} puppeteer-core {PUPPETEER_CORE}");
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    let title = format!("OHIF {OHIF} and puppeteer-core {PUPPETEER_CORE}");
    step::announce(&title);
    let start = Instant::now();
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let npm = |arguments: &[&str]| step::output(Command::new("npm").args(arguments).current_dir(&dir));
    npm(&["pack", "--silent", &format!("@ohif/app@{OHIF}")])?;
    let tarball = dir.join(format!("ohif-app-{OHIF}.tgz"));
    let digest = sha256(&tarball)?;
    if digest != OHIF_SHA256 {
        bail!("@ohif/app {OHIF}: the package's SHA-256 is {digest}, expected {OHIF_SHA256}");
    }
    step::output(Command::new("tar").arg("-xzf").arg(&tarball).current_dir(&dir))?;
    fs::write(dir.join("package.json"), r#"{"private": true}"#)?;
    npm(&[
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--save-exact",
        &format!("puppeteer-core@{PUPPETEER_CORE}"),
    ])?;
    fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))?;
    step::done(&title, start);
    Ok(())
}

/// The receivers that are only measured against: dicom-rs's, built from the package registry.
///
/// # Errors
/// When it cannot be built.
pub(crate) fn bench_peers() -> Result<()> {
    let folder = root().join("target/peers/dicom-rs");
    let version = format!("dicom-storescp {DICOM_STORESCP}");
    let installed = step::output(Command::new(folder.join("bin/dicom-storescp")).arg("--version"));
    if installed.is_ok_and(|said| said.trim() == version) {
        return Ok(());
    }
    let mut install = step::cargo(&["install", "dicom-storescp", "--version", DICOM_STORESCP, "--locked", "--force"]);
    step::run(&format!("cargo install {version} (takes minutes)"), install.arg("--root").arg(folder))
}

struct Need {
    what: &'static str,
    package: &'static str,
    present: fn() -> bool,
}

/// Installs the Debian packages of what is missing, or says in one line what to install.
fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let Some(apt_get) = apt_get() else {
        let what: Vec<&str> = missing.iter().map(|need| need.what).collect();
        bail!("missing: {}. Install it: sudo apt-get install {}", what.join(", "), packages.join(" "));
    };
    let apt_get = |title: &str, arguments: &[&str]| {
        let mut command = Command::new(&apt_get[0]);
        command.args(&apt_get[1..]).args(["-q", "-y"]).args(arguments);
        step::run(title, &mut command)
    };
    apt_get("apt-get update", &["update"])?;
    let mut arguments = vec!["install", "--no-install-recommends"];
    arguments.extend(&packages);
    apt_get(&format!("apt-get install {}", packages.join(" ")), &arguments)?;
    match missing.iter().find(|need| !(need.present)()) {
        None => Ok(()),
        Some(need) => bail!("{} is still missing although the package {} is installed", need.what, need.package),
    }
}

/// How to run `apt-get` without being asked anything; none where that is not possible.
fn apt_get() -> Option<Vec<String>> {
    if !on_path("apt-get") {
        return None;
    }
    let words = |words: &[&str]| Some(words.iter().map(ToString::to_string).collect());
    let quiet =
        |command: &mut Command| command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_root = step::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if is_root {
        return words(&["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    }
    let sudo = quiet(Command::new("sudo").args(["-n", "true"])).is_ok_and(|status| status.success());
    if sudo { words(&["sudo", "-n", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]) } else { None }
}

/// Whether a program is on the search path, or in `sbin`, where Debian keeps Orthanc and a user's path may not lead.
fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(more).any(|dir| dir.join(program).is_file())
}

fn python_imports(module: &str) -> bool {
    step::output(Command::new("python3").args(["-c", &format!("import {module}")])).is_ok()
}

/// ONNX Runtime's shared library as `target/onnxruntime/libonnxruntime.so`.
fn onnx_runtime() -> Result<()> {
    let wheel = wheel()?;
    let dir = root().join("target/onnxruntime");
    let library = dir.join("libonnxruntime.so");
    if sha256(&library).is_ok_and(|digest| digest == wheel.library_sha256) {
        return Ok(());
    }
    let title = format!("ONNX Runtime {ONNXRUNTIME} for {}", wheel.platform);
    step::announce(&title);
    let start = Instant::now();
    if !on_path("python3") || !python_imports("pip") {
        bail!("Python 3 with pip is needed to get ONNX Runtime. Install it: sudo apt-get install python3-pip");
    }
    // Beside its place, so that the finished file can be renamed into it: a program that has the old one open keeps it.
    let work = dir.join(format!("download.{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let result = download(&wheel, &work).and_then(|unpacked| {
        fs::rename(&unpacked, &library).with_context(|| format!("cannot write {}", library.display()))
    });
    let _ = fs::remove_dir_all(&work);
    result?;
    step::done(&title, start);
    Ok(())
}

/// Downloads the wheel into `work`, checks it, and returns the library unpacked and checked.
fn download(wheel: &Wheel, work: &Path) -> Result<PathBuf> {
    // Named platform and Python, so that every machine gets the one wheel whose digest is known.
    let requirement = format!("onnxruntime=={ONNXRUNTIME}");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]);
    pip.args(["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--platform", wheel.platform]);
    pip.arg("--dest").arg(work).arg(&requirement);
    step::output(&mut pip)?;
    let file = work.join(format!("onnxruntime-{ONNXRUNTIME}-cp311-cp311-{}.whl", wheel.platform));
    let digest = sha256(&file)?;
    if digest != wheel.wheel_sha256 {
        bail!("{requirement}: the wheel's SHA-256 is {digest}, expected {}", wheel.wheel_sha256);
    }
    let member = format!("onnxruntime/capi/libonnxruntime.so.{ONNXRUNTIME}");
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "--extract"]).arg(&file).arg(work);
    step::output(&mut unzip)?;
    let library = work.join(member);
    let digest = sha256(&library)?;
    if digest != wheel.library_sha256 {
        bail!("{}: its SHA-256 is {digest}, expected {}", library.display(), wheel.library_sha256);
    }
    Ok(library)
}

fn sha256(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// pynetdicom, pydicom, highdicom and pypdf in an environment of their own under `target/`, at the versions and digests of
/// `tests/peers/requirements.txt`.
fn python_peers() -> Result<()> {
    python_environment(
        "pynetdicom, pydicom, highdicom and pypdf",
        "requirements.txt",
        "venv",
        "import highdicom, pydicom, pynetdicom, pypdf",
    )
}

/// The decoders that are only measured against, in another one.
///
/// # Errors
/// When they cannot be installed.
pub(crate) fn bench_decoders() -> Result<()> {
    install(&[Need { what: "GDCM's tools", package: "libgdcm-tools", present: || on_path("gdcmconv") }])?;
    python_environment(
        "pydicom's decoders",
        "decoders.txt",
        "pixels",
        "import pydicom, gdcm, libjpeg, openjpeg, rle, jpeg_ls",
    )
}

/// The runtimes that are only measured against, with the exporters that make the models to measure; gigabytes.
///
/// # Errors
/// When they cannot be installed.
pub(crate) fn bench_runtimes() -> Result<()> {
    python_environment(
        "PyTorch, Transformers and onnxruntime-genai (takes minutes)",
        "runtimes.txt",
        "infer",
        "import onnxruntime_genai, onnx, torch, transformers",
    )
}

/// Packages at the versions (and digests, where it has any) of a file in `tests/peers`, in a folder under `target/peers`.
fn python_environment(title: &str, requirements: &str, folder: &str, check: &str) -> Result<()> {
    let requirements = root().join("tests/peers").join(requirements);
    let wanted =
        fs::read_to_string(&requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let venv = root().join("target/peers").join(folder);
    let python = venv.join("bin/python");
    let installed = venv.join("installed-requirements.txt");
    let up_to_date = fs::read_to_string(&installed).is_ok_and(|text| text == wanted);
    if up_to_date && step::output(Command::new(&python).args(["-c", check])).is_ok() {
        return Ok(());
    }
    step::announce(title);
    let start = Instant::now();
    step::output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]);
    pip.args(wanted.contains("--hash=").then_some("--require-hashes"));
    pip.arg("--requirement").arg(&requirements);
    step::output(&mut pip)?;
    fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))?;
    step::done(title, start);
    Ok(())
}

fn test_runner() -> Result<()> {
    if step::output(&mut step::cargo(&["nextest", "--version"])).is_ok() {
        return Ok(());
    }
    step::run(
        "cargo install cargo-nextest (takes minutes)",
        &mut step::cargo(&["install", "cargo-nextest", "--locked"]),
    )
}
