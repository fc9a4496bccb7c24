//! The numbers of `<infiniband/verbs.h>` that are used here. They are data, never a Rust enum: a library newer than this file
//! may say others. Compared with the header by `testbed/verbs-oracle`.

#![allow(dead_code, reason = "the oracle compares what is here, used or not")]
#![allow(missing_docs, reason = "the header and the InfiniBand specification document them")]

/// Declares constants, and the list of them for the oracle.
macro_rules! numbers {
    ($($name:ident: $ty:ty = $value:expr;)*) => {
        $(pub const $name: $ty = $value;)*
        /// Every name here with its value.
        #[allow(clippy::cast_lossless, clippy::cast_sign_loss, reason = "none is negative")]
        pub const ALL: &[(&str, u64)] = &[$((stringify!($name), $value as u64),)*];
    };
}

numbers! {
    IBV_QPT_RC: u32 = 2;
    IBV_QPT_UD: u32 = 4;

    IBV_QPS_RESET: u32 = 0;
    IBV_QPS_INIT: u32 = 1;
    IBV_QPS_RTR: u32 = 2;
    IBV_QPS_RTS: u32 = 3;
    IBV_QPS_SQD: u32 = 4;
    IBV_QPS_SQE: u32 = 5;
    IBV_QPS_ERR: u32 = 6;

    IBV_QP_STATE: i32 = 1;
    IBV_QP_ACCESS_FLAGS: i32 = 1 << 3;
    IBV_QP_PKEY_INDEX: i32 = 1 << 4;
    IBV_QP_PORT: i32 = 1 << 5;
    IBV_QP_QKEY: i32 = 1 << 6;
    IBV_QP_AV: i32 = 1 << 7;
    IBV_QP_PATH_MTU: i32 = 1 << 8;
    IBV_QP_TIMEOUT: i32 = 1 << 9;
    IBV_QP_RETRY_CNT: i32 = 1 << 10;
    IBV_QP_RNR_RETRY: i32 = 1 << 11;
    IBV_QP_RQ_PSN: i32 = 1 << 12;
    IBV_QP_MAX_QP_RD_ATOMIC: i32 = 1 << 13;
    IBV_QP_MIN_RNR_TIMER: i32 = 1 << 15;
    IBV_QP_SQ_PSN: i32 = 1 << 16;
    IBV_QP_MAX_DEST_RD_ATOMIC: i32 = 1 << 17;
    IBV_QP_CAP: i32 = 1 << 19;
    IBV_QP_DEST_QPN: i32 = 1 << 20;

    IBV_ACCESS_LOCAL_WRITE: i32 = 1;
    IBV_ACCESS_REMOTE_WRITE: i32 = 1 << 1;
    IBV_ACCESS_REMOTE_READ: i32 = 1 << 2;
    IBV_ACCESS_REMOTE_ATOMIC: i32 = 1 << 3;
    IBV_ACCESS_RELAXED_ORDERING: i32 = 1 << 20;

    IBV_WR_RDMA_WRITE: u32 = 0;
    IBV_WR_RDMA_WRITE_WITH_IMM: u32 = 1;
    IBV_WR_SEND: u32 = 2;
    IBV_WR_SEND_WITH_IMM: u32 = 3;
    IBV_WR_RDMA_READ: u32 = 4;
    IBV_WR_ATOMIC_CMP_AND_SWP: u32 = 5;
    IBV_WR_ATOMIC_FETCH_AND_ADD: u32 = 6;

    IBV_SEND_FENCE: u32 = 1;
    IBV_SEND_SIGNALED: u32 = 1 << 1;
    IBV_SEND_SOLICITED: u32 = 1 << 2;
    IBV_SEND_INLINE: u32 = 1 << 3;

    IBV_WC_SUCCESS: u32 = 0;
    IBV_WC_LOC_LEN_ERR: u32 = 1;
    IBV_WC_LOC_QP_OP_ERR: u32 = 2;
    IBV_WC_LOC_PROT_ERR: u32 = 4;
    IBV_WC_WR_FLUSH_ERR: u32 = 5;
    IBV_WC_BAD_RESP_ERR: u32 = 7;
    IBV_WC_LOC_ACCESS_ERR: u32 = 8;
    IBV_WC_REM_INV_REQ_ERR: u32 = 9;
    IBV_WC_REM_ACCESS_ERR: u32 = 10;
    IBV_WC_REM_OP_ERR: u32 = 11;
    IBV_WC_RETRY_EXC_ERR: u32 = 12;
    IBV_WC_RNR_RETRY_EXC_ERR: u32 = 13;
    IBV_WC_REM_ABORT_ERR: u32 = 16;
    IBV_WC_FATAL_ERR: u32 = 19;
    IBV_WC_RESP_TIMEOUT_ERR: u32 = 20;
    IBV_WC_GENERAL_ERR: u32 = 21;

    IBV_WC_SEND: u32 = 0;
    IBV_WC_RDMA_WRITE: u32 = 1;
    IBV_WC_RDMA_READ: u32 = 2;
    IBV_WC_COMP_SWAP: u32 = 3;
    IBV_WC_FETCH_ADD: u32 = 4;
    IBV_WC_RECV: u32 = 1 << 7;
    IBV_WC_RECV_RDMA_WITH_IMM: u32 = (1 << 7) + 1;

    IBV_WC_GRH: u32 = 1;
    IBV_WC_WITH_IMM: u32 = 1 << 1;

    IBV_WC_EX_WITH_BYTE_LEN: u64 = 1;
    IBV_WC_EX_WITH_IMM: u64 = 1 << 1;
    IBV_WC_EX_WITH_QP_NUM: u64 = 1 << 2;
    IBV_WC_EX_WITH_SRC_QP: u64 = 1 << 3;
    IBV_WC_EX_WITH_SLID: u64 = 1 << 4;
    IBV_WC_EX_WITH_SL: u64 = 1 << 5;
    IBV_WC_EX_WITH_DLID_PATH_BITS: u64 = 1 << 6;
    IBV_WC_EX_WITH_COMPLETION_TIMESTAMP: u64 = 1 << 7;
    IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK: u64 = 1 << 11;

    IBV_VALUES_MASK_RAW_CLOCK: u32 = 1;

    IBV_PORT_DOWN: u32 = 1;
    IBV_PORT_ACTIVE: u32 = 4;
    IBV_LINK_LAYER_INFINIBAND: u8 = 1;
    IBV_LINK_LAYER_ETHERNET: u8 = 2;

    IBV_GID_TYPE_IB: u32 = 0;
    IBV_GID_TYPE_ROCE_V1: u32 = 1;
    IBV_GID_TYPE_ROCE_V2: u32 = 2;

    IBV_EVENT_CQ_ERR: u32 = 0;
    IBV_EVENT_QP_FATAL: u32 = 1;
    IBV_EVENT_QP_REQ_ERR: u32 = 2;
    IBV_EVENT_QP_ACCESS_ERR: u32 = 3;
    IBV_EVENT_COMM_EST: u32 = 4;
    IBV_EVENT_SQ_DRAINED: u32 = 5;
    IBV_EVENT_PATH_MIG: u32 = 6;
    IBV_EVENT_PATH_MIG_ERR: u32 = 7;
    IBV_EVENT_DEVICE_FATAL: u32 = 8;
    IBV_EVENT_PORT_ACTIVE: u32 = 9;
    IBV_EVENT_PORT_ERR: u32 = 10;
    IBV_EVENT_LID_CHANGE: u32 = 11;
    IBV_EVENT_PKEY_CHANGE: u32 = 12;
    IBV_EVENT_SM_CHANGE: u32 = 13;
    IBV_EVENT_SRQ_ERR: u32 = 14;
    IBV_EVENT_SRQ_LIMIT_REACHED: u32 = 15;
    IBV_EVENT_QP_LAST_WQE_REACHED: u32 = 16;
    IBV_EVENT_CLIENT_REREGISTER: u32 = 17;
    IBV_EVENT_GID_CHANGE: u32 = 18;
    IBV_EVENT_WQ_FATAL: u32 = 19;
}
