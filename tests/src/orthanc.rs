//! Debian's Orthanc as the PACS: a process, a database and ports of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{child::Child, daemon::AE_TITLE, http, peers, port::Port, wait};

/// Its title.
pub const ORTHANC: &str = "ORTHANC";

/// Orthanc's DICOMweb, where Debian puts it.
pub const DICOMWEB: &str = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so";

/// A running Orthanc.
pub struct Orthanc {
    child: Child,
    http: Port,
    dicom: Port,
    dir: TempDir,
}

/// Sends every instance that Orthanc stores, from wherever it came, to preread; and notes every C-STORE that comes in,
/// also one that brings what is already there.
const ROUTING: &str = r#"
function ReceivedInstanceFilter(dicom, origin)
  if origin["RequestOrigin"] == "DicomProtocol" then
    print("came-by-store " .. dicom.SOPInstanceUID)
  end
  return true
end

function OnStoredInstance(instanceId, tags, metadata, origin)
  print("routed " .. tags.SOPInstanceUID)
  SendToModality(instanceId, "preread")
end
"#;

impl Orthanc {
    /// Takes the ports that a later [`Ready::route_to`] starts it on: preread and Orthanc each need the other's.
    ///
    /// # Errors
    /// When Orthanc is not installed, or no port is free.
    pub fn prepare() -> Result<Ready> {
        Ok(Ready { program: peers::program("Orthanc", "orthanc")?, http: Port::free()?, dicom: Port::free()? })
    }

    /// Its DICOM port, as `host:port`.
    pub fn address(&self) -> String {
        self.dicom.address()
    }

    /// Its web page, as `host:port`.
    pub fn web_address(&self) -> String {
        self.http.address()
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        self.child.log()
    }

    /// The SOP Instance UIDs of the C-STORE requests that came in, each as often as it came.
    pub fn came_by_store(&self) -> Vec<String> {
        self.noted("came-by-store ")
    }

    /// The SOP Instance UIDs of the instances that it sent on to preread, each as often as it tried.
    pub fn routed(&self) -> Vec<String> {
        self.noted("routed ")
    }

    fn noted(&self, what: &str) -> Vec<String> {
        let log = self.log();
        let after = |line: &str| Some(line.split_once(what)?.1.trim().to_owned());
        log.lines().filter_map(after).collect()
    }

    /// Puts a file into Orthanc as its web page would; returns Orthanc's own id of the instance.
    ///
    /// # Errors
    /// When Orthanc refuses it.
    pub fn upload(&self, file: &Path) -> Result<String> {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let answer: Value =
            serde_json::from_slice(&http::request("POST", &self.http.address(), "/instances", &bytes)?)?;
        Ok(answer["ID"].as_str().context("Orthanc names no id")?.to_owned())
    }

    /// Sends an instance to a modality and waits until that is done.
    ///
    /// # Errors
    /// When Orthanc says that it failed.
    pub fn store(&self, id: &str, modality: &str) -> Result<()> {
        self.post(&format!("/modalities/{modality}/store"), &json!({"Resources": [id], "Synchronous": true}))?;
        Ok(())
    }

    /// Removes an instance.
    ///
    /// # Errors
    /// When there is none.
    pub fn delete(&self, id: &str) -> Result<()> {
        http::request("DELETE", &self.http.address(), &format!("/instances/{id}"), &[])?;
        Ok(())
    }

    /// Asks a modality to commit to instances, pairs of SOP Class and SOP Instance UID. Returns the transaction.
    ///
    /// # Errors
    /// When the modality does not take the request.
    pub fn request_commitment(&self, modality: &str, instances: &Value) -> Result<String> {
        let path = format!("/modalities/{modality}/storage-commitment");
        let answer = self.post(&path, &json!({"DicomInstances": instances}))?;
        Ok(answer["ID"].as_str().context("no transaction")?.to_owned())
    }

    /// What came of a transaction: its `Status`, and once that is not `Pending` any more, `Success` and `Failures`.
    ///
    /// # Errors
    /// When there is none.
    pub fn commitment(&self, transaction: &str) -> Result<Value> {
        self.get(&format!("/storage-commitment/{transaction}"))
    }

    /// The SOP Instance UIDs and Orthanc's own ids of the SR documents in a study, one list for each SR series.
    ///
    /// # Errors
    /// When Orthanc does not answer.
    pub fn sr_series(&self, study_instance_uid: &str) -> Result<Vec<Vec<(String, String)>>> {
        let query = json!({
            "Level": "Series",
            "Expand": true,
            "Query": {"StudyInstanceUID": study_instance_uid, "Modality": "SR"},
        });
        let mut all = Vec::new();
        for series in self.post("/tools/find", &query)?.as_array().into_iter().flatten() {
            let mut documents = Vec::new();
            for id in series["Instances"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let instance = self.get(&format!("/instances/{id}"))?;
                let uid = instance["MainDicomTags"]["SOPInstanceUID"].as_str().unwrap_or_default();
                documents.push((uid.to_owned(), id.to_owned()));
            }
            all.push(documents);
        }
        Ok(all)
    }

    /// The DICOM file that Orthanc keeps under its own id.
    ///
    /// # Errors
    /// When there is none.
    pub fn file(&self, id: &str) -> Result<Vec<u8>> {
        http::request("GET", &self.http.address(), &format!("/instances/{id}/file"), &[])
    }

    /// Whether a job, such as sending an instance, is waiting or running.
    ///
    /// # Errors
    /// When Orthanc does not answer.
    pub fn is_busy(&self) -> Result<bool> {
        let jobs = self.get("/jobs?expand")?;
        let open = |job: &Value| matches!(job["State"].as_str(), Some("Pending" | "Running" | "Retry"));
        Ok(jobs.as_array().is_some_and(|jobs| jobs.iter().any(open)))
    }

    fn get(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&http::request("GET", &self.http.address(), path, &[])?)?)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let answer = http::request("POST", &self.http.address(), path, body.to_string().as_bytes())?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// The folder it keeps everything in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// An Orthanc whose ports are known and that does not run yet.
pub struct Ready {
    program: PathBuf,
    http: Port,
    dicom: Port,
}

impl Ready {
    /// Where it will receive, as `host:port`.
    pub fn address(&self) -> String {
        self.dicom.address()
    }

    /// Starts it; every instance that it stores goes on to preread on `port`.
    ///
    /// # Errors
    /// When it does not answer within half a minute; what it printed is part of the message.
    pub fn route_to(self, port: u16) -> Result<Orthanc> {
        self.start(&[("preread", port)], Some(ROUTING), &[])
    }

    /// Starts it; a Lua script of the caller's sends what it stores to the modality `preread` on `port`.
    ///
    /// # Errors
    /// As [`Self::route_to`].
    pub fn route_by(self, script: &str, port: u16) -> Result<Orthanc> {
        self.start(&[("preread", port)], Some(script), &[])
    }

    /// Starts it as an archive that a viewer asks through DICOMweb.
    ///
    /// # Errors
    /// As [`Self::route_to`].
    pub fn serve_web(self) -> Result<Orthanc> {
        self.start(&[], None, &[DICOMWEB])
    }

    /// Starts it as a sender that is told what to send where: to the ports of `modalities`, by name.
    ///
    /// # Errors
    /// As [`Self::route_to`].
    pub fn send_to(self, modalities: &[(&str, u16)]) -> Result<Orthanc> {
        self.start(modalities, None, &[])
    }

    fn start(self, modalities: &[(&str, u16)], script: Option<&str>, plugins: &[&str]) -> Result<Orthanc> {
        let dir = tempfile::Builder::new().prefix("preread-e2e-orthanc-").tempdir()?;
        let (storage, config) = (dir.path().join("storage"), dir.path().join("orthanc.json"));
        let mut scripts = Vec::new();
        if let Some(script) = script {
            let file = dir.path().join("script.lua");
            fs::write(&file, script)?;
            scripts.push(file);
        }
        let modalities: serde_json::Map<String, Value> =
            modalities.iter().map(|(name, port)| ((*name).to_owned(), json!([AE_TITLE, "127.0.0.1", port]))).collect();
        let settings = json!({
            "Name": "e2e",
            "StorageDirectory": storage,
            "IndexDirectory": storage,
            "HttpPort": self.http.number(),
            "RemoteAccessAllowed": false,
            "AuthenticationEnabled": false,
            "DicomPort": self.dicom.number(),
            "DicomAet": ORTHANC,
            "DicomAlwaysAllowStore": true,
            "UnknownSopClassAccepted": true,
            "DicomModalities": modalities,
            // It would hold the association open for five seconds after the last instance.
            "DicomAssociationCloseDelay": 1,
            // How long a study must be quiet to be stable, in seconds.
            "StableAge": 2,
            "LuaScripts": scripts,
            "Plugins": plugins,
        });
        fs::write(&config, settings.to_string())?;
        let mut command = Command::new(self.program);
        // Its DICOM library would wait for the answer to each small write before the next.
        command.arg(&config).env("TCP_NODELAY", "1");
        let child = Child::start(&mut command, &dir.path().join("orthanc.log"))?;
        let mut orthanc = Orthanc { child, http: self.http, dicom: self.dicom, dir };
        let answer = wait::until("Orthanc's answer", Duration::from_secs(30), || {
            if let Some(status) = orthanc.child.ended()? {
                anyhow::bail!("Orthanc ended with {status}");
            }
            Ok(orthanc.get("/system").ok())
        });
        answer.with_context(|| format!("Orthanc's log:\n{}", orthanc.log()))?;
        Ok(orthanc)
    }
}
