//! What holds for every sequence of calls.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::super::StoreError;
use super::{Engine, Harness, roster};
use crate::delivery::{Delivery, Status, Verdict};

/// One step of a delivery's life.
#[derive(Debug, Clone)]
enum Step {
    Claim,
    /// Settles the latest attempt that was ever handed out.
    Settle(u8),
    /// Settles one that was handed out before.
    SettleOld(u8),
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Claim),
        4 => (0u8..5).prop_map(Step::Settle),
        2 => (0u8..5).prop_map(Step::SettleOld),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..25)
}

/// Within a round nothing leaves `succeeded` or `dead`; attempts only grow;
/// only the latest hand-out can be settled, and only once.
pub async fn deliveries_obey_the_state_machine<E: Engine>(mut h: Harness<E>) {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for case in 0..24 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        let handler = format!("h{case}");
        let id = h.pending(&format!("{case}"), &[&handler]).await;
        let mut model = Model::default();
        for step in &steps {
            model.take(&mut h, &handler, step).await;
            let stands = h.stands(id, &handler).await;
            assert_eq!(stands, (model.status, model.attempts), "{steps:?}");
        }
    }
}

struct Model {
    status: Status,
    attempts: u32,
    handed_out: Vec<Delivery>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            status: Status::Pending,
            attempts: 0,
            handed_out: Vec::new(),
        }
    }
}

impl Model {
    async fn take<E: Engine>(&mut self, h: &mut Harness<E>, handler: &str, step: &Step) {
        match step {
            Step::Claim => {
                let claimed = h.claim(handler, 9).await;
                assert_eq!(claimed.len(), usize::from(self.status == Status::Pending));
                if !claimed.is_empty() {
                    self.status = Status::Running;
                    self.attempts += 1;
                    assert_eq!(claimed[0].attempt, self.attempts);
                }
                self.handed_out.extend(claimed);
            }
            Step::Settle(verdict) => {
                if let Some(latest) = self.handed_out.pop() {
                    self.settle(h, &latest, *verdict, self.status == Status::Running)
                        .await;
                    self.handed_out.clear();
                }
            }
            Step::SettleOld(verdict) => {
                if self.handed_out.len() > 1 {
                    let old = self.handed_out.remove(0);
                    self.settle(h, &old, *verdict, false).await;
                }
            }
            Step::Crash => {
                h.crash().await;
                h.store.take_over(&roster(&[]), h.now()).await.unwrap();
                if self.status == Status::Running {
                    self.status = Status::Pending;
                }
            }
        }
    }

    async fn settle<E: Engine>(&mut self, h: &Harness<E>, of: &Delivery, verdict: u8, ours: bool) {
        let (verdict, status) = match verdict {
            0 => (Verdict::Succeeded, Status::Succeeded),
            1 => (Verdict::RetryAt(h.now()), Status::Pending),
            2 => (Verdict::Dead, Status::Dead),
            3 => (Verdict::Stopped, Status::Pending),
            _ => (Verdict::Returned, Status::Pending),
        };
        let result = h.record(of.key(), verdict).await;
        if ours {
            assert_eq!(result, Ok(()));
            self.status = status;
            self.attempts -= u32::from(verdict == Verdict::Returned);
        } else {
            assert_eq!(result, Err(StoreError::NotOurs));
        }
    }
}
