// A program of a gateway's author, against the types that are made of the document.

import { ComAcmeGetTariffAccepted } from './ComAcmeGetTariffAccepted';
import { ComAcmeGetTariffRequest } from './ComAcmeGetTariffRequest';
import { ComAcmeGetTariffRequestV16 } from './ComAcmeGetTariffRequestV16';
import { ComAcmeShowTextToStationRequest } from './ComAcmeShowTextToStationRequest';
import { Refused } from './Refused';

export const request: ComAcmeGetTariffRequest = {
  vendorId: 'com.Acme', messageId: 'GetTariff', data: { connectorId: 1, kind: 'dc' },
};
export const asText: ComAcmeGetTariffRequestV16 = { ...request, data: JSON.stringify(request.data) };
export const toStation: ComAcmeShowTextToStationRequest = {
  vendorId: 'com.acme', messageId: 'ShowText', data: { text: 'Hello' },
};

export function price(answer: ComAcmeGetTariffAccepted | Refused): number {
  if (answer.status === 'Accepted') return answer.data.energyPrice;
  throw new Error(answer.statusInfo?.reasonCode ?? answer.status);
}

// @ts-expect-error - a field is missing
export const lacking: ComAcmeGetTariffRequest['data'] = { kind: 'ac' };
// @ts-expect-error - there is no such kind
export const odd: ComAcmeGetTariffRequest['data'] = { connectorId: 1, kind: 'hydrogen' };
// @ts-expect-error - in OCPP 1.6 it is text
export const structured: ComAcmeGetTariffRequestV16['data'] = { connectorId: 1 };
