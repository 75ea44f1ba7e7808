//! Clients' requests: what is plainly wrong is answered at once, what was answered before is answered again,
//! the rest is proposed.

use cell::live::{Op, Rejected, Request, Settings, Timestamp};
use cell::spec::SpecError;
use scheduler::mix;

use crate::{Core, Output, Token};

/// Whether each setting is in its range, and the policy is one that there is.
///
/// # Errors
/// With the first that is not.
pub fn check_settings(settings: &Settings) -> Result<(), SpecError> {
    settings.check()?;
    let policies = scheduler::policies();
    if policies.iter().any(|policy| policy.name() == settings.policy) {
        return Ok(());
    }
    let names: Vec<&str> = policies.iter().map(|policy| policy.name()).collect();
    let problem = format!("{:?} is no policy: {}", settings.policy, names.join(", "));
    Err(SpecError::new("settings.policy", problem))
}

impl Core {
    pub(crate) fn ask(
        &mut self,
        now: Timestamp,
        token: Token,
        mut request: Request,
        op: Op,
        out: &mut Vec<Output>,
    ) {
        let Some(leader) = &mut self.leader else {
            // The shell asks only who leads; a request that crossed with a change of leader is lost.
            return;
        };
        if let Some(outcome) = self.state.answer_now(&request, &op) {
            out.push(Output::Answer { token, outcome });
            return;
        }
        // The state does not know which policies there are.
        if let Op::Configure(settings) = &op
            && let Err(error) = check_settings(settings)
        {
            out.push(Output::Answer { token, outcome: Err(Rejected::from(error)) });
            return;
        }
        // Requests for a session have no session that would tell those of different clients apart. Each opens
        // one of its own, a retry too: what nobody uses ends by itself.
        if op == Op::OpenSession {
            request.sequence = mix(self.config.seed ^ mix(leader.term ^ mix(token.0)));
        }
        let tokens = leader.asked.entry((request.session, request.sequence)).or_default();
        tokens.push(token);
        // A retry of what is under way waits for the same answer.
        if tokens.len() == 1 {
            out.push(self.proposal(now, Some(token), Some(request), op));
        }
    }

    pub(crate) fn forget_token(&mut self, token: Token) {
        let Some(leader) = &mut self.leader else { return };
        for tokens in leader.asked.values_mut() {
            tokens.retain(|&other| other != token);
        }
        leader.asked.retain(|_, tokens| !tokens.is_empty());
    }
}
