"""Names of columns for files, labels, patients and sides, as sheets of hospitals spell them."""

from __future__ import annotations


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FILE_NAMES = _names(
    """
    file filename file_name image image_file image_filename image_name path image_path file_path
    filepath fullpath full_path img img_path img_name image_file_path dicom_path dicom_file
    png_path jpg_path image_id imageid anon_dicom_path
    """
)
LABEL_NAMES = _names(
    """
    label class labels classes target diagnosis_label cancer malignant malignancy is_cancer
    is_malignant pathology pathology_classification pathology_classification_follow_up
    diagnosis ground_truth groundtruth y classification status outcome
    """
)
PATIENT_NAMES = _names(
    """
    patient_id patient patientid case case_id caseid subject_id subject subjectid participant_id
    participant participantid pid pat_id patid patient_no patient_number patientnumber patient_nr
    patient_name patient_code person_id person empi_anon empi mrn medical_record_number case_no
    case_number casenumber case_nr anon_patient_id anonymized_patient_id anonymised_patient_id
    id_patient id_paciente paciente patienten_id patientennummer id1 study_subject_id usubjid
    """
)
SIDE_NAMES = _names("side laterality breast_side image_laterality left_or_right_breast breast lr")
"""Accepted column names, normalised, in order of preference."""
LESION_NAMES = _names(
    "abnormality_id lesion_id finding_id roi_id mass_id lesion abnormality_number"
)
"""Columns that number the lesions of one image."""
