//! Clients' requests: what is plainly wrong is answered at once, what was answered before is answered again,
//! the rest is proposed.

use cell::live::{Op, Request, Timestamp};

use crate::{Core, Output, Token};

impl Core {
    pub(crate) fn ask(
        &mut self,
        now: Timestamp,
        token: Token,
        request: Request,
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
