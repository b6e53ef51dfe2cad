auditDay("2023-11-06",[
["00:00:00","sensing-data","extract","ada",1,"00000000-0000-4000-8000-000000000015",1,"midnight belongs to the day that it begins"],
["23:59:59","sensing-data","extract","ada",1,"00000000-0000-4000-8000-000000000016",1,"runs over midnight"],
]);
