//! Right reports of phantom studies, in the words that radiologists use: the sentences are chosen by a seed, and what they say
//! is what the study's facts say.

use e2e::random::Random;
use serde_json::{Value, json};

/// A report in its sections, and the facts of its study.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) procedure: Procedure,
    pub(crate) indication: String,
    pub(crate) technique: String,
    pub(crate) comparison: String,
    pub(crate) findings: Vec<String>,
    pub(crate) impression: Vec<String>,
    pub(crate) recommendations: Vec<String>,
    /// How it is laid out: 0 to 3.
    pub(crate) layout: u64,
    pub(crate) study: Value,
    /// What is found, with its side where it has one.
    pub(crate) found: Vec<(&'static str, Option<&'static str>)>,
}

/// What was examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Procedure {
    ChestRadiograph,
    ChestCt,
    BrainMr,
    AbdomenUltrasound,
    Mammogram,
    Knee,
}

const PROCEDURES: [Procedure; 6] = [
    Procedure::ChestRadiograph,
    Procedure::ChestCt,
    Procedure::BrainMr,
    Procedure::AbdomenUltrasound,
    Procedure::Mammogram,
    Procedure::Knee,
];

/// Something that may be found: its name, how findings and impression say it ({side}, {mm}), and the sentence that it stands for
/// when it is not there.
struct Finding {
    name: &'static str,
    sided: bool,
    sizes: &'static [u64],
    findings: &'static [&'static str],
    impression: &'static [&'static str],
    normal: &'static [&'static str],
}

pub(crate) fn one<'a, T: ?Sized>(random: &mut Random, of: &[&'a T]) -> &'a T {
    of[usize::try_from(random.below(of.len() as u64)).unwrap_or_default()]
}

fn finding(
    name: &'static str,
    (sided, sizes): (bool, &'static [u64]),
    findings: &'static [&'static str],
    impression: &'static [&'static str],
    normal: &'static [&'static str],
) -> Finding {
    Finding { name, sided, sizes, findings, impression, normal }
}

fn possible(procedure: Procedure) -> Vec<Finding> {
    match procedure {
        Procedure::ChestRadiograph => vec![
            finding(
                "pleural_effusion",
                (true, &[]),
                &[
                    "There is a small {side} pleural effusion.",
                    "Moderate {side} pleural effusion with blunting of the costophrenic angle.",
                    "Blunting of the {side} costophrenic angle is consistent with a small {side} pleural effusion.",
                ],
                &["Small {side} pleural effusion.", "{Side} pleural effusion."],
                &["No pleural effusion.", "There is no pleural effusion.", "The costophrenic angles are sharp."],
            ),
            finding(
                "pneumothorax",
                (true, &[]),
                &["There is a {side} apical pneumothorax.", "A small {side} pneumothorax is present."],
                &["{Side} pneumothorax.", "Small {side} pneumothorax."],
                &["No pneumothorax.", "There is no evidence of pneumothorax.", "No pneumothorax is seen."],
            ),
            finding(
                "consolidation",
                (true, &[]),
                &[
                    "There is a focal consolidation in the {side} lower lobe.",
                    "Airspace consolidation with air bronchograms is seen in the {side} lower lobe.",
                ],
                &[
                    "{Side} lower lobe consolidation, likely pneumonia.",
                    "Consolidation in the {side} lower lobe, suspicious for pneumonia.",
                ],
                &["No focal consolidation.", "The lungs are clear without focal consolidation."],
            ),
            finding(
                "cardiomegaly",
                (false, &[]),
                &[
                    "The heart is mildly enlarged.",
                    "The cardiac silhouette is enlarged.",
                    "There is moderate cardiomegaly.",
                ],
                &["Cardiomegaly.", "Mild cardiomegaly."],
                &[
                    "The heart size is normal.",
                    "The cardiomediastinal silhouette is within normal limits.",
                    "Heart size is within normal limits.",
                ],
            ),
            finding(
                "fracture",
                (true, &[]),
                &["There is a nondisplaced fracture of the {side} clavicle.", "An acute {side} rib fracture is noted."],
                &["{Side} rib fracture.", "Acute fracture on the {side}."],
                &[
                    "No acute osseous abnormality.",
                    "The visualized bones are intact.",
                    "No displaced rib fracture is identified.",
                ],
            ),
        ],
        Procedure::ChestCt => vec![
            finding(
                "nodule",
                (true, &[4, 7, 12]),
                &[
                    "There is a {mm} mm solid nodule in the {side} upper lobe.",
                    "A solid nodule in the {side} upper lobe measures {mm} mm.",
                    "{mm} mm solid pulmonary nodule in the {side} upper lobe.",
                ],
                &["Solid nodule in the {side} upper lobe.", "{Side} upper lobe nodule, {mm} mm."],
                &["No suspicious pulmonary nodule.", "No nodules or masses are seen."],
            ),
            finding(
                "pulmonary_embolism",
                (true, &[]),
                &[
                    "A filling defect in the {side} pulmonary artery is consistent with pulmonary embolism.",
                    "There is an acute pulmonary embolism in a {side} lower lobe artery.",
                ],
                &["Acute {side} pulmonary embolism.", "Pulmonary embolism on the {side}."],
                &["No pulmonary embolism.", "There is no evidence of pulmonary embolism."],
            ),
            finding(
                "lymphadenopathy",
                (false, &[]),
                &["There is mediastinal lymphadenopathy.", "Enlarged lymph nodes are present in the mediastinum."],
                &["Mediastinal lymphadenopathy."],
                &["No mediastinal or hilar lymphadenopathy.", "No pathologically enlarged lymph nodes."],
            ),
            finding(
                "pleural_effusion",
                (true, &[]),
                &[
                    "Small {side} pleural effusion with adjacent atelectasis.",
                    "There is a moderate {side} pleural effusion.",
                ],
                &["{Side} pleural effusion."],
                &["No pleural or pericardial effusion.", "The pleural spaces are clear."],
            ),
            finding(
                "emphysema",
                (false, &[]),
                &["There is mild centrilobular emphysema.", "Moderate emphysema, upper lobe predominant."],
                &["Emphysema."],
                &["The central airways are patent.", "The trachea and central bronchi are patent."],
            ),
        ],
        Procedure::BrainMr => vec![
            finding(
                "acute_infarct",
                (true, &[]),
                &[
                    "There is restricted diffusion in the {side} frontal lobe, consistent with acute infarct.",
                    "An acute infarct is present in the {side} parietal lobe.",
                ],
                &["Acute {side} hemisphere infarct.", "Acute infarct on the {side}."],
                &["No acute infarct.", "There is no restricted diffusion to suggest acute infarction."],
            ),
            finding(
                "meningioma",
                (true, &[14, 21]),
                &[
                    "There is an extra-axial meningioma along the {side} frontal convexity measuring {mm} mm.",
                    "A {mm} mm meningioma is seen at the {side} convexity.",
                ],
                &["{Side} convexity meningioma."],
                &["No intracranial mass or mass effect.", "There is no mass."],
            ),
            finding(
                "white_matter_disease",
                (false, &[]),
                &[
                    "There is mild chronic small vessel ischemic change in the periventricular white matter.",
                    "Scattered T2 hyperintense foci in the white matter are consistent with small vessel disease.",
                ],
                &["Mild chronic small vessel ischemic change.", "Small vessel disease."],
                &["The brain parenchyma is normal in signal.", "Gray-white matter differentiation is preserved."],
            ),
            finding(
                "hydrocephalus",
                (false, &[]),
                &["There is moderate hydrocephalus.", "The ventricles are enlarged, consistent with hydrocephalus."],
                &["Hydrocephalus."],
                &["The ventricles and sulci are normal in size.", "No hydrocephalus."],
            ),
            finding(
                "intracranial_hemorrhage",
                (false, &[]),
                &["There is an acute intracranial hemorrhage.", "Intracranial hemorrhage is present."],
                &["Acute intracranial hemorrhage."],
                &["No intracranial hemorrhage.", "There is no evidence of intracranial hemorrhage."],
            ),
        ],
        Procedure::AbdomenUltrasound => vec![
            finding(
                "gallstone",
                (false, &[]),
                &[
                    "Multiple gallstones are present in the gallbladder.",
                    "There is cholelithiasis without gallbladder wall thickening.",
                ],
                &["Cholelithiasis.", "Gallstones without evidence of cholecystitis."],
                &["The gallbladder is normal.", "No gallstones or gallbladder wall thickening."],
            ),
            finding(
                "hydronephrosis",
                (true, &[]),
                &["There is moderate hydronephrosis of the {side} kidney.", "Mild {side} hydronephrosis."],
                &["{Side} hydronephrosis.", "Hydronephrosis of the {side} kidney."],
                &["No hydronephrosis.", "Both kidneys are normal in size without hydronephrosis."],
            ),
            finding(
                "hepatic_steatosis",
                (false, &[]),
                &[
                    "The liver shows increased echogenicity, consistent with hepatic steatosis.",
                    "There is moderate hepatic steatosis.",
                ],
                &["Hepatic steatosis.", "Fatty liver."],
                &["The liver is normal in size and echogenicity.", "The liver is normal in echotexture and contour."],
            ),
            finding(
                "renal_cyst",
                (true, &[18, 32]),
                &[
                    "A simple cyst of {mm} mm is seen in the {side} kidney.",
                    "There is a {mm} mm simple renal cyst on the {side}.",
                ],
                &["Simple {side} renal cyst.", "Simple cyst of the {side} kidney."],
                &["No renal calculi.", "There is no renal mass."],
            ),
            finding(
                "splenomegaly",
                (false, &[]),
                &["The spleen is enlarged.", "There is splenomegaly."],
                &["Splenomegaly."],
                &["The spleen is normal in size.", "The spleen is unremarkable."],
            ),
            finding(
                "ascites",
                (false, &[]),
                &["There is a moderate amount of ascites.", "Small volume ascites is noted."],
                &["Ascites."],
                &["No ascites.", "There is no free fluid."],
            ),
        ],
        Procedure::Mammogram => vec![
            finding(
                "breast_mass",
                (true, &[9, 15]),
                &[
                    "There is a {mm} mm irregular spiculated mass in the upper outer quadrant of the {side} breast.",
                    "A {mm} mm suspicious mass is seen in the {side} breast.",
                ],
                &["Suspicious mass in the {side} breast.", "{Side} breast mass."],
                &["No suspicious mass.", "There is no dominant mass."],
            ),
            finding(
                "microcalcifications",
                (true, &[]),
                &[
                    "There are clustered pleomorphic microcalcifications in the {side} breast.",
                    "Suspicious microcalcifications are present in the {side} breast.",
                ],
                &["Suspicious microcalcifications in the {side} breast."],
                &["No suspicious calcifications.", "No suspicious microcalcifications are seen."],
            ),
            finding(
                "architectural_distortion",
                (true, &[]),
                &[
                    "Architectural distortion is seen in the {side} breast.",
                    "There is architectural distortion in the upper outer quadrant of the {side} breast.",
                ],
                &["Architectural distortion in the {side} breast."],
                &["No architectural distortion.", "There is no architectural distortion."],
            ),
        ],
        Procedure::Knee => vec![
            finding(
                "joint_effusion",
                (false, &[]),
                &["There is a small joint effusion.", "A moderate suprapatellar effusion is present."],
                &["Joint effusion."],
                &["No joint effusion.", "There is no significant joint effusion."],
            ),
            finding(
                "osteoarthritis",
                (false, &[]),
                &[
                    "There is moderate medial compartment joint space narrowing with osteophytes.",
                    "Mild tricompartmental osteoarthritis is seen.",
                ],
                &["Osteoarthritis.", "Moderate osteoarthritis."],
                &["The joint spaces are preserved.", "Joint spaces are maintained."],
            ),
            finding(
                "fracture",
                (false, &[]),
                &[
                    "There is a nondisplaced fracture of the tibial plateau.",
                    "An acute fracture of the patella is present.",
                ],
                &["Acute fracture."],
                &["No acute fracture or dislocation.", "There is no fracture."],
            ),
        ],
    }
}

fn normals(procedure: Procedure) -> &'static [&'static str] {
    match procedure {
        Procedure::ChestRadiograph => {
            &["The trachea is midline.", "The hila are unremarkable.", "The mediastinal contours are normal."]
        }
        Procedure::ChestCt => &[
            "The visualized upper abdomen is unremarkable.",
            "The thoracic aorta is normal in caliber.",
            "No aggressive osseous lesion.",
        ],
        Procedure::BrainMr => &[
            "The orbits are unremarkable.",
            "The paranasal sinuses and mastoid air cells are clear.",
            "Major intracranial flow voids are preserved.",
        ],
        Procedure::AbdomenUltrasound => &[
            "The pancreas is unremarkable.",
            "The common bile duct is not dilated.",
            "The abdominal aorta is normal in caliber.",
        ],
        Procedure::Mammogram => &[
            "There are scattered areas of fibroglandular density.",
            "The breasts are heterogeneously dense.",
            "No skin thickening or nipple retraction.",
        ],
        Procedure::Knee => {
            &["The soft tissues are unremarkable.", "Alignment is anatomic.", "Bone mineralization is normal."]
        }
    }
}

struct Facts {
    modality: &'static str,
    body_part: &'static str,
    technique: &'static [&'static str],
    indication: &'static [&'static str],
}

fn facts(procedure: Procedure) -> Facts {
    let (modality, body_part, technique, indication): (_, _, &[&str], &[&str]) = match procedure {
        Procedure::ChestRadiograph => (
            "DX",
            "CHEST",
            &["Single frontal view of the chest.", "PA chest radiograph.", "Portable AP chest radiograph."],
            &["Cough and fever.", "Shortness of breath.", "Chest pain, evaluate for pneumonia."],
        ),
        Procedure::ChestCt => (
            "CT",
            "CHEST",
            &[
                "CT of the chest with intravenous contrast.",
                "Thin section CT of the chest without contrast.",
                "Contrast-enhanced CT of the chest was performed.",
            ],
            &["Chest pain, rule out pulmonary embolism.", "Weight loss.", "Persistent cough for 6 weeks."],
        ),
        Procedure::BrainMr => (
            "MR",
            "BRAIN",
            &[
                "Multiplanar T1 and T2 weighted images, FLAIR and diffusion weighted imaging.",
                "MRI of the brain without and with gadolinium.",
            ],
            &["Headache.", "Sudden weakness, evaluate for stroke.", "Dizziness and confusion."],
        ),
        Procedure::AbdomenUltrasound => (
            "US",
            "ABDOMEN",
            &["Ultrasound of the abdomen.", "Complete abdominal ultrasound was performed."],
            &["Right upper quadrant pain.", "Elevated liver enzymes.", "Flank pain, question of kidney stone."],
        ),
        Procedure::Mammogram => (
            "MG",
            "BREAST",
            &["Digital mammography, CC and MLO views.", "Bilateral digital mammography with tomosynthesis."],
            &["Screening.", "Annual screening mammography.", "Palpable lump."],
        ),
        Procedure::Knee => (
            "DX",
            "KNEE",
            &["Frontal and lateral views of the knee.", "Three views of the knee."],
            &["Pain after fall.", "Knee pain.", "Trauma."],
        ),
    };
    Facts { modality, body_part, technique, indication }
}

/// Fills {side}, {Side} and {mm} in.
pub(crate) fn fill(words: &str, side: &str, millimetres: u64) -> String {
    let capital = if side == "left" { "Left" } else { "Right" };
    words.replace("{side}", side).replace("{Side}", capital).replace("{mm}", &millimetres.to_string())
}

/// The right report of phantom study `number`.
pub(crate) fn right(number: u64) -> Report {
    let mut random = Random::seeded(0x7265_706f_7274 ^ (number.wrapping_mul(0x9e37_79b9)));
    let procedure = PROCEDURES[usize::try_from(number % 6).unwrap_or_default()];
    let about = facts(procedure);
    let side = one(&mut random, &["left", "right"]);
    let knee = (procedure == Procedure::Knee).then_some(side);
    let (mut findings, mut impression, mut found, mut measured) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut recommendations, mut nodule, mut suspicious) = (Vec::new(), None, false);
    let mut count = 0;
    for finding in possible(procedure) {
        if random.below(100) >= 32 || count == 3 {
            findings.push(one(&mut random, finding.normal).to_owned());
            continue;
        }
        count += 1;
        let its = if finding.sided { one(&mut random, &["left", "right"]) } else { side };
        let size = if finding.sizes.is_empty() {
            0
        } else {
            finding.sizes[usize::try_from(random.below(finding.sizes.len() as u64)).unwrap_or_default()]
        };
        findings.push(fill(one(&mut random, finding.findings), its, size));
        impression.push(fill(one(&mut random, finding.impression), its, size));
        found.push((finding.name, finding.sided.then_some(its)));
        if size > 0 {
            measured.push(json!({ "value": size, "unit": "mm" }));
        }
        nodule = nodule.or((finding.name == "nodule").then_some(size));
        suspicious |= procedure == Procedure::Mammogram;
    }
    findings.push(one(&mut random, normals(procedure)).to_owned());
    let prior_given = random.below(3) == 0;
    let comparison = if prior_given {
        let of =
            ["Prior study from 3 May 2023.", "Examination of 2022-11-17.", "Previous examination dated 03/12/2023."];
        if !found.is_empty() && random.below(2) == 0 {
            findings.push(
                one(
                    &mut random,
                    &[
                        "No significant interval change since the prior examination.",
                        "The findings are otherwise unchanged compared with the prior study.",
                    ],
                )
                .to_owned(),
            );
        }
        of[usize::try_from(random.below(3)).unwrap_or_default()]
    } else {
        one(&mut random, &["None.", "No prior studies available.", "None available for comparison."])
    };
    if let Some(size) = nodule {
        recommendations.push(advice(&mut random, size).to_owned());
    }
    if procedure == Procedure::Mammogram {
        let (category, recommended) = if suspicious {
            (
                "BI-RADS 4: suspicious.",
                one(&mut random, &["Biopsy is recommended.", "Ultrasound-guided biopsy is recommended."]),
            )
        } else {
            (
                one(&mut random, &["BI-RADS 1.", "BI-RADS category 2: benign findings."]),
                one(
                    &mut random,
                    &[
                        "Routine annual screening mammography is recommended.",
                        "Annual screening mammography is recommended.",
                    ],
                ),
            )
        };
        impression.push(category.to_owned());
        recommendations.push(recommended.to_owned());
    } else if impression.is_empty() {
        let normal = match procedure {
            Procedure::ChestRadiograph => "No acute cardiopulmonary abnormality.",
            Procedure::Knee => "No acute abnormality.",
            _ => "No significant abnormality.",
        };
        impression.push(normal.to_owned());
    }
    let sex = one(&mut random, &["F", "M"]);
    let sex = if procedure == Procedure::Mammogram { "F" } else { sex };
    let study = json!({
        "modalities": [about.modality], "body_parts": [about.body_part], "laterality": knee,
        "views": if procedure == Procedure::ChestRadiograph { vec!["PA"] } else { vec![] },
        "sex": sex, "age": 40 + random.below(40), "prior_given": prior_given, "measured": measured,
    });
    Report {
        procedure,
        indication: one(&mut random, about.indication).to_owned(),
        technique: one(&mut random, about.technique).to_owned(),
        comparison: comparison.to_owned(),
        findings,
        impression,
        recommendations,
        layout: random.below(4),
        study,
        found,
    }
}

fn advice(random: &mut Random, millimetres: u64) -> &'static str {
    match millimetres {
        0..=5 => one(random, &["No routine follow-up is needed.", "No follow-up imaging is required."]),
        6..=8 => one(
            random,
            &["Follow-up CT in 6-12 months is recommended.", "Recommend CT of the chest at 6 to 12 months."],
        ),
        _ => one(random, &["PET/CT or tissue sampling is recommended.", "Follow-up CT in 3 months is recommended."]),
    }
}

impl Report {
    /// The report as text, in one of four layouts.
    pub(crate) fn text(&self) -> String {
        let sections = [
            ("Indication", vec![self.indication.clone()]),
            ("Technique", vec![self.technique.clone()]),
            ("Comparison", vec![self.comparison.clone()]),
            ("Findings", self.findings.clone()),
            ("Impression", self.impression.clone()),
            ("Recommendations", self.recommendations.clone()),
        ];
        let mut text = String::new();
        for (name, sentences) in sections.into_iter().filter(|(_, sentences)| !sentences.is_empty()) {
            let numbered = name == "Impression" && self.layout.is_multiple_of(2);
            let body = if numbered {
                (1..).zip(&sentences).map(|(number, words)| format!("{number}. {words}")).collect::<Vec<_>>().join("\n")
            } else {
                sentences.join(if self.layout == 3 { "\n" } else { " " })
            };
            text += &match self.layout {
                0 => format!("{}:\n{body}\n\n", name.to_uppercase()),
                1 => format!("{name}: {body}\n"),
                2 => format!("**{name}:**\n{}\n\n", wrapped(&body)),
                _ => format!("{}\n{body}\n\n", name.to_uppercase()),
            };
        }
        text.trim_end().to_owned()
    }
}

/// Lines of at most 72 characters.
fn wrapped(text: &str) -> String {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.len() + word.len() >= 72 {
                lines.push(std::mem::take(&mut line));
            }
            line += if line.is_empty() { "" } else { " " };
            line += word;
        }
        lines.push(line);
    }
    lines.join("\n")
}
