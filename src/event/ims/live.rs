//! Real-time media processing: recordings and snapshots of live streams.
//!
//! ApsaraVideo Live has messages of its own about the same things, flat and in
//! lower case (`domain`, `app`, `stream`, `uri`); those are not these events.

use super::field::{Embedded, Number};
use super::model::{event, object};

event! {
    /// A live recording produced a file.
    LiveRecordFileCreated(Live, NameOnly, "SDK `ListLiveRecordFiles`", ["LiveRecordFileCreated"]) {
        /// Id of the recording job, a UUID.
        job_id: String = "JobId", Sometimes, InferredJob;
        /// Name of the recording job.
        job_name: String = "JobName", Sometimes, InferredJob;
        /// Id of the file.
        record_id: String = "RecordId", Sometimes, InferredJob;
        /// The stream that was recorded.
        stream_url: String = "StreamUrl", Sometimes, InferredJob;
        /// Address of the index file.
        record_url: String = "RecordUrl", Sometimes, InferredJob;
        /// Where recordings go.
        record_output: Embedded<RecordOutput> = "RecordOutput", Sometimes, InferredJob;
        /// The format, for example `m3u8`.
        format: String = "Format", Sometimes, InferredJob;
        /// Length in seconds, with a fraction.
        duration: Number = "Duration", Sometimes, InferredJob;
        /// Width in pixels; a real number here, a string in transcoding.
        width: Number = "Width", Sometimes, InferredJob;
        /// Height in pixels; as `Width`.
        height: Number = "Height", Sometimes, InferredJob;
        /// When the file begins, UTC.
        start_time: String = "StartTime", Sometimes, InferredJob;
        /// When the file ends, UTC.
        end_time: String = "EndTime", Sometimes, InferredJob;
        /// When the file was made, UTC.
        create_time: String = "CreateTime", Sometimes, InferredJob;
    }
}

object! {
    /// Where recordings go.
    RecordOutput {
        /// `oss` or `vod`.
        r#type: String = "Type", Sometimes, InferredJob;
        /// The object store's endpoint.
        endpoint: String = "Endpoint", Sometimes, InferredJob;
        /// The bucket.
        bucket: String = "Bucket", Sometimes, InferredJob;
    }
}

event! {
    /// A live recording job changed its state.
    ///
    /// A recording job tries to pull its stream for 3 minutes, then stops.
    LiveRecordTaskStatus(Live, NameOnly, "SDK `GetLiveRecordJob`", ["LiveRecordTaskStatus"]) {
        /// Id of the recording job, a UUID.
        job_id: String = "JobId", Sometimes, InferredJob;
        /// Name of the recording job.
        name: String = "Name", Sometimes, InferredJob;
        /// `initial`, `started` or `paused`, in lower case, as the query has it.
        status: String = "Status", Sometimes, InferredJob;
    }
}

event! {
    /// A live snapshot produced a picture.
    ///
    /// A job that takes one every 5 seconds makes at least 12 of these a minute.
    LiveSnapshotFileCreated(Live, NameOnly, "SDK `ListLiveSnapshotFiles`, `GetLiveSnapshotJob`", ["LiveSnapshotFileCreated"]) {
        /// Id of the snapshot job.
        job_id: String = "JobId", Sometimes, InferredJob;
        /// The object store's endpoint.
        oss_endpoint: String = "OssEndpoint", Sometimes, InferredJob;
        /// The bucket.
        oss_bucket: String = "OssBucket", Sometimes, InferredJob;
        /// The key in the bucket; by default `snapshot/{JobId}.jpg`, which is
        /// overwritten, or `snapshot/{JobId}/{UnixTimestamp}.jpg`.
        oss_object: String = "OssObject", Sometimes, InferredJob;
        /// True: the picture that is overwritten each time.
        is_overlay: bool = "IsOverlay", Sometimes, InferredJob;
        /// When it was made, UNIX time in milliseconds.
        create_timestamp: Number = "CreateTimestamp", Sometimes, InferredJob;
        /// When it was made, UTC.
        create_time: String = "CreateTime", Sometimes, InferredJob;
    }
}
